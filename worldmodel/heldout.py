"""What a checkpoint knows of held-out episodes, measured without acting.

Losses at fixed flow times; the error of plans and of imagined frames for each number of denoising
steps K; and how well a linear read-out of the features inside the trunk finds things.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel.device import autocast
from worldmodel.errors import UserError
from worldmodel.leaves import Context, Leaves
from worldmodel.metrics import mean_interval, median_interval, psnr
from worldmodel.model import WorldModel
from worldmodel.objective import ObjectiveConfig, Segment, self_flow_loss
from worldmodel.probe import StateProbe
from worldmodel.representation import feature_layers
from worldmodel.rollout import Imagination, RolloutConfig, generators_from
from worldmodel.validation import sample_first_plan
from worldmodel.windows import Windows

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)  # flow times at which losses are taken
BATCH = 32
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the linear read-out, among which a part decides


@dataclass(frozen=True)
class HeldoutConfig:
    holdout: int = field(default=20, metadata={"help": "the dataset's last episodes, as held out"})
    windows: int = field(default=256, metadata={"help": "windows for losses and plans"})
    imagine: int = field(default=64, metadata={"help": "windows that are imagined"})
    horizon: int = field(default=8, metadata={"help": "env steps of those"})
    flow_steps: tuple[int, ...] = field(
        default=(1, 2, 4, 16), metadata={"help": "K, denoising steps, that are compared"}
    )
    threads: int = field(default=0, metadata={"help": "CPU threads (0: torch's own choice)"})
    precision: Literal["auto", "fp32", "bf16"] = field(
        default="auto", metadata={"help": "auto: bf16 autocast where the processor has it"}
    )

    def __post_init__(self) -> None:
        numbers = (self.windows, self.imagine, self.horizon, *self.flow_steps)
        if min(numbers) < 1 or not self.flow_steps:
            raise ValueError(
                "expected windows, imagine, horizon and every K of flow_steps >= 1; got "
                f"{self.windows}, {self.imagine}, {self.horizon}, {list(self.flow_steps)}"
            )


def heldout(
    model: WorldModel, probe: StateProbe | None, windows: Callable[[int], Windows],
    config: HeldoutConfig, on_progress: Callable[[int, str], None] = lambda n, text: None,
) -> dict[str, Any]:  # fmt: skip
    """All figures. ``windows(T)`` are the held-out windows of T steps.

    Without a ``probe`` pictures are compared with pictures, and nothing is read off features.
    """
    with torch.no_grad(), autocast(model.grid.device, config.precision):
        single = _batches(windows(1), config.windows, model)
        figures: dict[str, Any] = {"windows": config.windows, "horizon": config.horizon}
        figures["loss at flow time"] = loss_by_time(model, single)
        on_progress(1, "losses")
        for K in config.flow_steps:
            figures[f"K={K}"] = {"plan_mae": plan_error(model, single, K)}
            figures[f"K={K}"] |= imagined_error(model, probe, windows(config.horizon), config, K)
            on_progress(1, f"K={K}")
        if probe is not None:
            every = _batches(windows(1), 8 * config.windows, model)
            figures["linear read-out"] = linear_readout(model, probe, every)
        on_progress(1, "linear read-out")
    return figures


def _batches(windows: Windows, count: int, model: WorldModel) -> list[Segment]:
    """Evenly spread windows, in order, each after which something follows."""
    picks = np.linspace(0, len(windows) - 1, min(count, len(windows))).astype(np.int64)
    parts = np.array_split(picks, max(1, math.ceil(len(picks) / BATCH)))
    batches = [windows.get(part) for part in parts]
    kept = [type(b)(*(x[b.exists.all(axis=1)] for x in b)) for b in batches]
    return [Segment.of(b, model.grid.device) for b in kept if len(b.exists)]


def loss_by_time(model: WorldModel, batches: list[Segment]) -> dict[str, dict[str, float]]:
    """Velocity losses of plans and next frames from one clean observation, at each of TIMES."""
    found = {}
    for t in TIMES:
        shift = math.log(t / (1 - t))
        fixed = ObjectiveConfig(
            name="flow", next_ratio=1.0, noisy_context=0.0, absent_action=0.0, cut=1.0,
            time_spread=0.0, next_shift=shift, plan_shift=shift, next_tail=0.0, plan_pure=0.0,
        )  # fmt: skip
        g, rows = torch.Generator().manual_seed(0), []
        for batch in batches:
            _, metrics = self_flow_loss(model, nn.Identity(), None, batch, fixed, g)
            rows.append([float(metrics[f"loss_{k}"]) for k in ("plan", "next", "change")])
        plan, frame, change = np.mean(rows, axis=0)
        found[f"{t:g}"] = {"plan": float(plan), "next": float(frame), "change": float(change)}
    return found


def plan_error(model: WorldModel, batches: list[Segment], flow_steps: int) -> Any:
    """Mean absolute error [env units] of plans from one observation, with its interval."""
    g, errors = torch.Generator().manual_seed(0), []
    for batch in batches:
        plan = sample_first_plan(model, batch, g, flow_steps)
        wrong = (plan - batch.plan[:, 0]).abs().mean(-1)
        mask = batch.plan_mask[:, 0]
        some = mask.any(dim=1)
        errors.append(((wrong * mask).sum(1) / mask.sum(1).clamp(min=1))[some].cpu().numpy())
    values = np.concatenate(errors)
    return mean_interval(values) if len(values) else None


def imagined_error(
    model: WorldModel, probe: StateProbe | None, windows: Windows, config: HeldoutConfig,
    flow_steps: int,
) -> dict[str, Any]:  # fmt: skip
    """How far imagined frames are from the real ones after ``horizon`` steps of recorded actions:
    PSNR [dB], and in mm between what the probe reads off either."""
    sampler = RolloutConfig(flow_steps=flow_steps, precision=config.precision)
    shown: list[np.ndarray] = []
    real: list[np.ndarray] = []
    for batch in _batches(windows, config.imagine, model):
        world = Imagination(
            model, batch.images[:, 0], batch.proprio[:, 0], config=sampler,
            generators=generators_from(0, len(batch.action)),
        )  # fmt: skip
        for n in range(windows.length):
            world.step(batch.action[:, n])
        shown.append(world.show().cpu().numpy())
        real.append(batch.images[:, -1].cpu().numpy())
    ours, theirs = np.concatenate(shown), np.concatenate(real)
    figures: dict[str, Any] = {
        "psnr": mean_interval(np.minimum(psnr(ours, theirs), 60.0).mean(-1)), "imagined": len(ours)
    }  # fmt: skip
    if probe is not None:
        found, truth = probe.read(ours), probe.read(theirs)
        for name in probe.positions:
            wrong = 1000 * np.linalg.norm(found[name] - truth[name], axis=-1)
            figures[f"{name}_mm"] = median_interval(wrong)
        for name in probe.flags:
            figures[f"{name}_agreement"] = mean_interval((found[name] == truth[name]).astype(float))
    return figures


def linear_readout(
    model: WorldModel, probe: StateProbe, batches: list[Segment]
) -> dict[str, dict[str, Any]]:
    """Median error [mm] of ridge regressions from features to what the probe reads in the last
    real frame: features of the next frame's tokens while they are pure noise, at the student's and
    at the teacher's layer. The first half of the windows is fitted, a sixth decides the penalty,
    the last third tests; they are in order, so that no episode is in two parts but for the seams.
    """
    student, teacher = feature_layers(model.config.trunk.depth)
    truth = [probe.read(batch.images[:, 0].cpu().numpy()) for batch in batches]
    found: dict[str, dict[str, Any]] = {}
    for who, layer in (("student", student), ("teacher", teacher)):
        x = torch.cat([_features(model, batch, layer) for batch in batches]).double()
        n = len(x)
        if n < 12:
            raise UserError(f"a linear read-out of {n} windows says nothing: hold out more")
        fit, choose, test = torch.arange(n).tensor_split([n // 2, n // 2 + n // 6])
        x = x - x[fit].mean(0)
        kernel = x @ x.T / x[fit].square().sum(1).mean()
        found[who] = {}
        for name in probe.positions:
            y = torch.from_numpy(np.concatenate([t[name] for t in truth])).double()
            middle = y[fit].mean(0)
            best: tuple[float, Tensor] | None = None
            for penalty in PENALTIES:
                ridge = kernel[fit][:, fit] + penalty * torch.eye(len(fit), dtype=torch.float64)
                guess = kernel[:, fit] @ torch.linalg.solve(ridge, y[fit] - middle) + middle
                wrong = 1000 * (guess - y).norm(dim=1)
                if best is None or wrong[choose].median() < best[0]:
                    best = float(wrong[choose].median()), wrong[test]
            assert best is not None
            found[who][f"{name}_mm"] = median_interval(best[1].numpy())
    return found


def _features(model: WorldModel, batch: Segment, layer: int) -> Tensor:
    """(B, (N + 1) D) the tokens of o_1, still noise, after a layer of the trunk."""
    B, H, A = batch.plan[:, 0].shape
    g, device = torch.Generator().manual_seed(0), batch.proprio.device
    patches, proprio = model.observe(batch.images[:, :1], batch.proprio[:, :1])
    first, first_proprio = model.observe(batch.first, batch.first_proprio)
    N, P = patches.shape[2], proprio.shape[-1]

    def noise(*shape: int) -> Tensor:
        return torch.randn(B, *shape, generator=g).to(device)

    zero, one = torch.zeros(B, 1, device=device), torch.ones(B, 1, device=device)
    context = Context(
        patches, proprio, zero, model.action_scale(batch.action[:, :1]), zero, zero.long()
    )
    leaves = Leaves(
        (0,), noise(1, *patches.shape[2:]), noise(1, P), one[..., None].expand(-1, -1, N + 1),
        patches, first, first_proprio, noise(1, 1, H, A),
        one[..., None, None].expand(-1, -1, 1, H), noise(0, A), zero[:, :0],
    )  # fmt: skip
    _, features = model(context, leaves, feature_layer=layer, stop=True)
    assert features is not None
    return features.next.flatten(1).float().cpu()


def rows_of(figures: dict[str, Any]) -> list[list[str]]:
    """The figures as a table's rows: what, value and interval."""
    rows: list[list[str]] = []

    def walk(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{name}: {key}" if name else key, inner)
        elif isinstance(value, list | tuple):
            middle, low, high = value
            rows.append([name, f"{middle:.4g} [{low:.4g}, {high:.4g}]"])
        else:
            rows.append([name, f"{value:.4g}" if isinstance(value, float) else str(value)])

    walk("", figures)
    return rows
