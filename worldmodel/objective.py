"""The Self-Flow objective over one batch of segments [arXiv 2603.06507].

    L = L_gen + gamma L_rep
    L_gen  velocity error of every leaf, a mean per modality, then weighted
    L_rep  worldmodel.representation

The student sees each leaf at two flow times spread over its tokens; the EMA teacher sees the same
tokens, from the same noise, at the cleaner of the two, against a clean context.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.device import generator_on
from worldmodel.distributed import ALONE, Ranks
from worldmodel.flow import DualTime, TimeDistribution, dual_time, interpolate, velocity_loss
from worldmodel.leaves import Context, Leaves
from worldmodel.masks import window_start
from worldmodel.model import WorldModel
from worldmodel.representation import feature_layers, masked_mean, representation_loss

if TYPE_CHECKING:
    from worldmodel.windows import Batch


FINE = 0.1  # steps' motion, below which errors of the robot's own motion are squared


@dataclass(frozen=True)
class ObjectiveConfig:
    name: Literal["flow", "dts", "self_flow", "mid"] = field(
        default="flow",
        metadata={
            "help": "flow: one time per leaf; dts: two; self_flow: two and the teacher; mid: one, "
            "and a second read-out at a third of the depth"
        },
    )
    gamma: float = field(
        default=0.8, metadata={"help": "weight of the representation loss, or of that read-out's"}
    )
    next_ratio: float = field(
        default=0.75, metadata={"help": "share of the steps whose next frame is denoised; 0: none"}
    )
    plans: int = field(default=2, metadata={"help": "independent noisy plans per step"})
    mask_next: float = field(
        default=0.1, metadata={"help": "R_M, share of a frame's tokens at the second time"}
    )
    mask_plan: float = field(
        default=0.5, metadata={"help": "chance of a whole plan being at the second time"}
    )
    time_spread: float = field(
        default=1.0, metadata={"help": "spread of p(t), before the sigmoid; 0: one time"}
    )
    next_shift: float = field(
        default=2.0, metadata={"help": "shift of p(t) toward noise for frames"}
    )
    next_tail: float = field(default=0.2, metadata={"help": "share of U[0.95, 1] in p(t), frames"})
    plan_shift: float = field(default=0.8, metadata={"help": "shift of p(t) for plans"})
    plan_pure: float = field(
        default=0.1,
        metadata={"help": "share of plans from pure noise, t = 1; 1: regression, for K = 1 alone"},
    )
    noisy_context: float = field(
        default=0.25, metadata={"help": "chance of a context observation being noisy"}
    )
    context_noise: float = field(
        default=0.2, metadata={"help": "largest flow time of a noisy context observation"}
    )
    absent_action: float = field(
        default=0.1, metadata={"help": "chance of a context action being absent"}
    )
    cut: float = field(
        default=0.3, metadata={"help": "chance, at every step, that the history before it is cut"}
    )
    weight_next: float = field(
        default=30.0, metadata={"help": "weight of the frame loss; most of a frame stands still"}
    )
    weight_change: float = field(
        default=0.5, metadata={"help": "weight of the losses of the change in proprioception"}
    )
    weight_body: float = field(
        default=1.0, metadata={"help": "weight of the loss of the robot's own picture"}
    )
    weight_plan: float = field(default=1.0, metadata={"help": "weight of the plan loss"})
    weight_inverse: float = field(default=0.05, metadata={"help": "weight of the inverse loss"})
    weight_outcome: float = field(default=0.1, metadata={"help": "weight of the outcome loss"})


class Segment(NamedTuple):
    """A batch of segments as tensors, in env units; see dataset.Batch."""

    images: Tensor  # (B, T + 1, C, h, w, 3) uint8
    first: Tensor  # (B, C, h, w, 3) uint8, an observation at or before the segment's first
    first_proprio: Tensor  # (B, P) proprioception then
    proprio: Tensor  # (B, T + 1, P)
    exists: Tensor  # (B, T) bool, False at an episode's last observation: nothing follows
    action: Tensor  # (B, T, A) executed
    known: Tensor  # (B, T) bool, False in videos without actions, whose a_n are absent
    plan: Tensor  # (B, T, H, A) labels
    plan_mask: Tensor  # (B, T, H) bool
    outcome: Tensor  # (B, T, 4) success, reward, terminated, value at o_n: leaves.OUTCOMES

    @classmethod
    def of(cls, batch: Batch, device: torch.device) -> Segment:
        """A batch of the dataset as tensors; what is one already stays where it is."""
        arrays = (torch.as_tensor(getattr(batch, name)) for name in cls._fields)
        return cls(*(array.to(device, non_blocking=True) for array in arrays))


def next_count(steps: int, config: ObjectiveConfig) -> int:
    """J, how many of a segment's next observations are denoised."""
    return max(1, round(config.next_ratio * steps)) if config.next_ratio else 0


def history_start(batch: int, steps: int, window: int, cut: float, g: torch.Generator) -> Tensor:
    """(B, T) the first visible step: the window's, or the last random cut's where that is later."""
    cuts = torch.rand(batch, steps, generator=g) < cut
    since = torch.where(cuts, torch.arange(steps), 0).cummax(dim=1).values
    return torch.maximum(since, window_start(steps, window))


def self_flow_loss(
    model: WorldModel, head: nn.Module, teacher: WorldModel | None, batch: Segment,
    config: ObjectiveConfig, g: torch.Generator, dreamt: Tensor | None = None,
    ranks: Ranks = ALONE,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """The loss (scalar) of one batch and what to log of it. ``g`` is a CPU generator.

    Of several ``ranks`` each has some rows of a whole batch: losses, metrics and gradients are to
    be averaged over them.

    ``dreamt`` uint8 (R, T, C, h, w, 3) takes the place of the pictures in the context of the first
    R segments, for the student; what follows is still real (worldmodel.rehearsal).
    """
    device = batch.proprio.device
    B, T, A = batch.action.shape
    M, H, N = config.plans, batch.plan.shape[2], model.patches
    dual = config.name in ("dts", "self_flow")
    G, mine = ranks.draws(B)  # noise is drawn for G rows, of which these are ours

    noise = generator_on(device, g)

    def noise_like(x: Tensor) -> Tensor:
        return torch.randn((G, *x.shape[1:]), generator=noise, device=device)[mine]

    def at(times: Tensor) -> Tensor:
        return times[mine].to(device)

    patches, proprio = model.observe(batch.images, batch.proprio)  # (B, T+1, N, Q), (B, T+1, P)
    first_seen, first_proprio = model.observe(batch.first, batch.first_proprio)  # (B, N, Q), (B, P)
    seen = patches[:, :-1]  # (B, T, N, Q) the pictures in the student's context
    if dreamt is not None:
        imagined, _ = model.observe(dreamt, batch.proprio[: len(dreamt), :-1])
        seen = torch.cat([imagined, seen[len(dreamt) :]])
    known = batch.known[..., None]  # (B, T, 1): nothing may depend on what stands where it is False
    action = model.action_scale(batch.action) * known
    x_plan = (model.action_scale(batch.plan) * known[..., None])[:, :, None].expand(B, T, M, H, A)

    # context: nearly clean pictures, clean proprioception, actions known or absent, random cuts
    noisy = (torch.rand(G, T, generator=g) < config.noisy_context).float()
    obs_time = at(noisy * config.context_noise * torch.rand(G, T, generator=g))
    absent = at(torch.rand(G, T, generator=g) < config.absent_action)
    absent = (absent | ~batch.known).float()
    first = at(history_start(G, T, model.config.window, config.cut, g))
    context = Context(
        interpolate(seen, noise_like(seen), obs_time[..., None, None]),
        proprio[:, :-1],
        obs_time,
        interpolate(action, noise_like(action), absent[..., None]),
        absent,
        first,
    )

    # leaves: next frames at a random part of the steps, plans at all, inverse where n >= 1
    J = next_count(T, config)
    steps = tuple(sorted(torch.randperm(T, generator=g)[:J].tolist()))
    change = model.change_scale(batch.proprio[:, 1:] - batch.proprio[:, :-1])
    x_next = patches[:, [n + 1 for n in steps]], change[:, steps]
    x_inverse = action[:, :-1]
    p_next = TimeDistribution(config.next_shift, config.time_spread, config.next_tail)
    p_plan = TimeDistribution(config.plan_shift, config.time_spread, config.plan_pure, late=1.0)
    t_next = DualTime(*map(at, dual_time((G, J), N + 1, p_next, config.mask_next, False, dual, g)))
    t_plan = DualTime(*map(at, dual_time((G, T, M), H, p_plan, config.mask_plan, True, dual, g)))
    t_inv = DualTime(*map(at, dual_time((G, T - 1), 1, p_plan, config.mask_plan, True, dual, g)))
    eps_next = noise_like(x_next[0]), noise_like(x_next[1])
    eps_plan, eps_inverse = noise_like(x_plan), noise_like(x_inverse)

    def leaves(next_time: Tensor, plan_time: Tensor, inverse_time: Tensor) -> Leaves:
        return Leaves(
            steps,
            interpolate(x_next[0], eps_next[0], next_time[..., :-1, None]),
            interpolate(x_next[1], eps_next[1], next_time[..., -1:]),
            next_time,
            seen[:, steps],
            first_seen,
            first_proprio,
            interpolate(x_plan, eps_plan, plan_time[..., None]),
            plan_time,
            interpolate(x_inverse, eps_inverse, inverse_time),
            inverse_time[..., 0],
        )

    layer, teacher_layer = feature_layers(model.config.trunk.depth)
    prediction, features = model(
        context, leaves(t_next.tau, t_plan.tau, t_inv.tau), feature_layer=layer
    )

    next_error = velocity_loss(prediction.next_patches, x_next[0], t_next.tau[..., :-1, None])
    change_error = velocity_loss(prediction.next_change, x_next[1], t_next.tau[..., -1:])
    body_error = (prediction.body - x_next[0]).square()
    follows = batch.exists[:, steps]  # (B, J)
    plan_error = velocity_loss(prediction.plan, x_plan, t_plan.tau[..., None]).mean(-1)
    plan_mask = (batch.plan_mask & known)[:, :, None].expand(B, T, M, H)
    outcome_error = outcome_loss(prediction.outcome, batch.outcome, model.config.reward_unit)
    terms = {
        "next": (config.weight_next, masked_mean(next_error.mean((-2, -1)), follows, ranks)),
        "change": (config.weight_change, masked_mean(change_error.mean(-1), follows, ranks)),
        "body": (config.weight_body, masked_mean(body_error.mean((-2, -1)), follows, ranks)),
        "plan": (config.weight_plan, masked_mean(plan_error, plan_mask, ranks)),
        "outcome": (config.weight_outcome, outcome_error),
    }
    if T > 1:
        inverse_error = velocity_loss(prediction.inverse, x_inverse, t_inv.tau).mean(-1)
        # a leaf may only be asked for an action that its context does not show
        hidden = absent[:, :-1] * (first[:, 1:] <= torch.arange(T - 1, device=device))
        hidden = hidden * batch.known[:, :-1]
        terms["inverse"] = (config.weight_inverse, masked_mean(inverse_error, hidden, ranks))
    loss = torch.stack([weight * value for weight, value in terms.values()]).sum()
    metrics = {f"loss_{name}": value.detach() for name, (_, value) in terms.items()}

    more: dict[str, Tensor] = {}
    if config.name == "self_flow":
        assert teacher is not None, "self_flow needs an EMA teacher"
        clean = context._replace(patches=patches[:, :-1], obs_time=torch.zeros_like(obs_time))
        cleaner = leaves(
            t_next.tau_min.expand(B, J, N + 1), t_plan.tau_min.expand(B, T, M, H), t_inv.tau_min
        )
        with torch.no_grad():
            _, target = teacher(clean, cleaner, feature_layer=teacher_layer, stop=True)
        added, more = representation_loss(head, features, target, known, ranks)
        loss = loss + config.gamma * added
    elif config.name == "mid":
        halfway = head(features)
        next_error = velocity_loss(halfway.next, x_next[0], t_next.tau[..., :-1, None])
        plan_error = velocity_loss(halfway.plan.view_as(x_plan), x_plan, t_plan.tau[..., None])
        more = {
            "mid_next": masked_mean(next_error.mean((-2, -1)), follows, ranks),
            "mid_plan": masked_mean(plan_error.mean(-1), plan_mask, ranks),
        }
        added = config.weight_next * more["mid_next"] + config.weight_plan * more["mid_plan"]
        loss = loss + config.gamma * added
    metrics |= {name: value.detach() for name, value in more.items()}
    metrics["loss"] = loss.detach()
    return loss, metrics


def body_loss(model: WorldModel, images: Tensor, proprio: Tensor) -> Tensor:
    """Squared error of the robot's own picture for observations uint8 (M, C, h, w, 3), (M, P)."""
    patches, pose = model.observe(images, proprio)
    return (model.picture_body(pose) - patches).square().mean()


def motion_loss(model: WorldModel, proprio: Tensor, action: Tensor) -> Tensor:
    """Error of the robot's own motion along (M, L + 1, P) and the actions (M, L, A), when it goes
    on from its own pose for L steps: small errors that all go one way would add up to a drift.

    In units of a step's motion, absolute beyond FINE of it: squares would leave what is small in
    one step, and grows, to the last. Sums that stand for a quantity of their own count as such: of
    a commanded pose, which nothing pulls back, errors add up, and each part of it may be nearly
    right where they are not (docs/log.md, 2026-11-28).
    """
    normalised, action = model.proprio_scale(proprio), model.action_scale(action)
    change = model.change_scale.std  # of a step, in env units
    unit = change / model.proprio_scale.std
    pose, errors = normalised[:, 0], []
    for n in range(action.shape[1]):
        _, pose = model.expect_pose(torch.cat([pose, action[:, n]], dim=-1))
        errors.append((pose - normalised[:, n + 1]) / unit)
    wrong = torch.stack(errors, dim=1)  # (M, L, P)
    parts = [wrong]
    if model.spec.sums:
        i, j = (list(part) for part in zip(*model.spec.sums, strict=True))
        parts.append((wrong[..., i] * change[i] + wrong[..., j] * change[j]) / change[j])
    losses = [F.huber_loss(x, torch.zeros_like(x), delta=FINE) for x in parts]
    return torch.stack(losses).sum()


def outcome_loss(predicted: Tensor, target: Tensor, unit: float) -> Tensor:
    """Cross-entropy for success and termination, squared error for reward and value: (B, T, 4).

    Rewards are compared by asinh(r / unit), which grows like r below the unit and like its
    logarithm above. By their plain squared errors little but the bonus of a success is learned: it
    is some thirty times a step of approach (docs/log.md, 2026-11-27).
    """
    binary = F.binary_cross_entropy_with_logits(predicted[..., [0, 2]], target[..., [0, 2]])
    read, true = (torch.asinh(x[..., 1] / unit) for x in (predicted, target))
    reward = F.mse_loss(read, true)
    return binary + 0.5 * (reward + F.mse_loss(predicted[..., 3], target[..., 3]))
