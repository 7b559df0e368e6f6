"""The objective: its times, losses and gradients, and that it is learned."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from tiny import A, M, tiny_model, tiny_segment

from worldmodel.flow import TimeDistribution, sample_time
from worldmodel.model import WorldModel
from worldmodel.objective import (
    ObjectiveConfig,
    Segment,
    history_start,
    motion_loss,
    outcome_loss,
    self_flow_loss,
)
from worldmodel.representation import feature_layers, head_of, representation_head


def loss_of(model: WorldModel, name: str, seed: int = 0, **changes):
    config = dataclasses.replace(ObjectiveConfig(name=name, plans=M), **changes)
    torch.manual_seed(seed)
    head = head_of(name, 32, 3 * model.config.patch**2, A)
    teacher = copy.deepcopy(model)
    g = torch.Generator().manual_seed(seed)
    return self_flow_loss(model, head, teacher, tiny_segment(), config, g), head


@pytest.mark.parametrize("name", ["flow", "dts", "self_flow", "mid"])
def test_gradients_reach_every_parameter(name: str) -> None:
    model = tiny_model(mounted=name == "flow")
    (loss, metrics), head = loss_of(model, name, absent_action=0.5, cut=0.0)
    batch = tiny_segment()
    (loss + motion_loss(model, batch.proprio, batch.action)).backward()
    assert all(torch.isfinite(v) for v in metrics.values())
    without = [k for k, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    head_has = [p.grad is not None and bool(p.grad.any()) for p in head.parameters()]
    assert all(head_has) == (name in ("self_flow", "mid"))


def test_losses_can_be_taken_at_one_flow_time() -> None:
    fixed = {"time_spread": 0.0, "next_tail": 0.0, "plan_pure": 0.0}
    drawn = sample_time((50,), TimeDistribution(1.5, 0.0, 0.0), torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn, torch.full((50,), 1 / (1 + math.exp(-1.5))))
    early, late = (
        loss_of(tiny_model(), "flow", next_shift=shift, plan_shift=shift, **fixed)[0][1]
        for shift in (-3.0, 3.0)
    )
    # read-outs start at zero, so x_hat is 0 and the velocity's error is larger by 1 / t^2 below 1
    assert early["loss_plan"] > 3 * late["loss_plan"]


def test_plans_from_pure_noise_are_a_regression() -> None:
    model, batch = tiny_model(), tiny_segment()
    for p in model.read_action.parameters():
        torch.nn.init.zeros_(p)
    (_, metrics), _ = loss_of(model, "flow", plan_pure=1.0)
    # the mean is predicted, and at t = 1 the loss is the square of its error
    wrong = model.action_scale(batch.plan).square().mean(-1)
    expected = (wrong * batch.plan_mask).sum() / batch.plan_mask.sum()
    torch.testing.assert_close(metrics["loss_plan"], expected)


def test_same_generator_same_loss() -> None:
    model = tiny_model()
    values = [loss_of(model, "self_flow", seed)[0][0].item() for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


def test_padding_of_a_plan_has_no_weight() -> None:
    model = tiny_model()
    config, head = ObjectiveConfig(name="flow"), representation_head(32)

    def plan_loss(batch: Segment) -> float:
        g = torch.Generator().manual_seed(3)
        return self_flow_loss(model, head, None, batch, config, g)[1]["loss_plan"].item()

    batch = tiny_segment()
    masked = batch._replace(plan_mask=torch.zeros_like(batch.plan_mask))
    assert plan_loss(masked) == 0
    assert plan_loss(batch) > 0


def test_the_teacher_sees_the_cleaner_time_against_a_clean_context() -> None:
    model, seen = tiny_model(), {}

    class Spy(torch.nn.Module):
        def __init__(self, inner, name):
            super().__init__()
            self.inner, self.name, self.config = inner, name, inner.config
            self.patches, self.observe = inner.patches, inner.observe
            self.action_scale, self.change_scale = inner.action_scale, inner.change_scale

        def forward(self, context, leaves, **options):
            seen[self.name] = context, leaves
            return self.inner(context, leaves, **options)

    config = ObjectiveConfig(name="self_flow", plans=M, noisy_context=1.0)
    self_flow_loss(
        Spy(model, "student"), representation_head(32), Spy(copy.deepcopy(model), "teacher"),
        tiny_segment(), config, torch.Generator().manual_seed(0),
    )  # fmt: skip
    (student_context, student), (teacher_context, teacher) = seen["student"], seen["teacher"]
    for name in ("next_time", "plan_time", "inverse_time"):
        mine, theirs = getattr(student, name), getattr(teacher, name)
        assert (theirs <= mine).all()
        assert (theirs < mine).any()
    # one noise for both: where the times agree the tokens do, and only there
    same_time = teacher.next_time[..., :-1] == student.next_time[..., :-1]
    same_token = (teacher.next_patches == student.next_patches).all(-1)
    assert torch.equal(same_time, same_token)
    assert (teacher.next_time == teacher.next_time[..., :1]).all()
    assert (student_context.obs_time > 0).all()
    assert (teacher_context.obs_time == 0).all()


def test_cosine_is_over_channels() -> None:
    """A teacher equal to the student but for each token's length: 1 over channels only."""
    model = tiny_model()

    class Same(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = None

        def forward(self, *args, **options):
            # scaled per token: invisible to a cosine over channels, not to one over tokens
            scale = 1 + torch.rand(self.seen.next.shape[:3])[..., None]
            plan = 1 + torch.rand(self.seen.plan.shape[:3])[..., None]
            return None, type(self.seen)(self.seen.next * scale, self.seen.plan * plan)

    same = Same()
    original = model.forward

    def remember(*args, **options):
        prediction, features = original(*args, **options)
        same.seen = features
        return prediction, features

    model.forward = remember
    config = ObjectiveConfig(name="self_flow", plans=M)
    g = torch.Generator().manual_seed(0)
    _, metrics = self_flow_loss(model, torch.nn.Identity(), same, tiny_segment(), config, g)
    assert metrics["cosine_next"].item() == pytest.approx(1.0, abs=1e-5)
    assert metrics["cosine_plan"].item() == pytest.approx(1.0, abs=1e-5)


def test_layers_of_student_and_teacher() -> None:
    assert feature_layers(28) == (8, 20)  # SiT-XL, as in the paper
    assert feature_layers(4) == (1, 3)


def test_histories_are_cut_at_the_asked_rate_and_respect_the_window() -> None:
    g = torch.Generator().manual_seed(0)
    always = history_start(500, 4, 3, 1.0, g)
    assert torch.equal(always, torch.arange(4).expand(500, 4))
    never = history_start(500, 4, 3, 0.0, g)
    assert torch.equal(never, torch.tensor([0, 0, 0, 1]).expand(500, 4))
    half = history_start(4000, 2, 3, 0.5, g)
    assert (half[:, 1] == 1).float().mean().item() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("name", ["flow", "self_flow", "mid"])
def test_overfits_one_batch(name: str) -> None:
    model = tiny_model(random_gates=False)
    torch.manual_seed(0)
    head = head_of(name, 32, 3 * model.config.patch**2, A)
    teacher = copy.deepcopy(model)
    batch = tiny_segment()
    config = ObjectiveConfig(name=name, noisy_context=0.0, absent_action=0.0, cut=0.0)
    g = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=3e-3)
    history = []
    for _ in range(150):
        loss, metrics = self_flow_loss(model, head, teacher, batch, config, g)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append({k: v.item() for k, v in metrics.items()})
    for key in ("loss_plan", "loss_next", *(["mid_plan", "mid_next"] if name == "mid" else [])):
        start = sum(h[key] for h in history[:10])
        end = sum(h[key] for h in history[-10:])
        assert end < 0.35 * start, (key, start, end)


def test_nothing_is_learned_from_what_does_not_follow() -> None:
    """At an episode's last observation there is no next frame: whatever stands there is ignored."""
    batch = tiny_segment()
    ends = batch.exists.clone()
    ends[0, -1] = False
    other = batch.images.clone(), batch.proprio.clone()
    other[0][0, -1] = 255 - other[0][0, -1]
    other[1][0, -1] += 5
    model, config = tiny_model(), ObjectiveConfig(name="flow", plans=M, next_ratio=1.0)
    losses = []
    for images, proprio in ((batch.images, batch.proprio), other):
        changed_batch = batch._replace(images=images, proprio=proprio, exists=ends)
        g = torch.Generator().manual_seed(0)
        losses.append(
            self_flow_loss(model, representation_head(32), None, changed_batch, config, g)
        )
    for name in ("loss_next", "loss_change", "loss_plan", "loss_outcome"):
        torch.testing.assert_close(losses[0][1][name], losses[1][1][name])


def test_a_step_of_approach_counts_beside_the_bonus_of_a_success() -> None:
    """What a reading that knows only the bonus leaves to be learned."""
    target = torch.zeros(1, 30, 4)
    target[..., 1] = 0.05 * torch.sin(torch.arange(30.0))
    target[:, -1, 1] = 1.0
    bonus, nothing = target.clone(), torch.zeros_like(target)
    bonus[:, :-1, 1] = 0.0

    def missed(unit: float) -> float:
        """Share of the reward's loss that the bonus alone does not account for."""
        best, worse, worst = (outcome_loss(x, target, unit) for x in (target, bonus, nothing))
        return float((worse - best) / (worst - best))

    assert missed(1.0) < 0.06
    assert missed(0.05) > 0.4


def test_a_reward_unit_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="reward_unit: got 0"):
        dataclasses.replace(tiny_model().config, reward_unit=0)
