"""The model and its objective: who influences whom, shapes, gradients, learning."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch

from worldmodel.flow import TimeDistribution, sample_time
from worldmodel.leaves import Context, Leaves
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.objective import (
    ObjectiveConfig,
    Segment,
    history_start,
    motion_loss,
    self_flow_loss,
)
from worldmodel.representation import feature_layers, head_of, representation_head
from worldmodel.spec import DataSpec, FeatureStats, Mount
from worldmodel.tokens import patchify, unpatchify, waves
from worldmodel.transformer import TransformerConfig

B, T, M, H, A, P, C, SIDE = 2, 3, 2, 4, 3, 5, 2, 16


def stats(n: int) -> FeatureStats:
    zero, one = (0.0,) * n, (1.0,) * n
    return FeatureStats(mean=zero, std=one, min=zero, max=one, q01=zero, q99=one, count=10)


def tiny_spec(mounted: bool = False) -> DataSpec:
    rays = (0.0, -0.8, -0.4, 0.8, 0.0, 0.0, 0.0, -0.3, 0.9)
    area = (-2.0, -2.0, 2.0, 2.0)
    room = Mount((0.0, 0.0, 2.0), rays, area)
    hand = Mount((0.1, 0.0, 0.5), rays, area, (0, 1, 2), (0, 1, 3), (4, 2, 1))
    return DataSpec(
        env="", env_options={}, cameras=("front", "wrist"), image_size=(SIDE, SIDE),
        proprio_names=tuple(f"p{i}" for i in range(P)),
        action_names=tuple(f"a{i}" for i in range(A)),
        control_frequency=10.0, tasks=("reach",), proprio_stats=stats(P), change_stats=stats(P),
        action_stats=stats(A), mounts={"front": room, "wrist": hand} if mounted else {},
    )  # fmt: skip


def tiny_model(
    seed: int = 0, random_gates: bool = True, window: int = 3, mounted: bool = False
) -> WorldModel:
    torch.manual_seed(seed)
    config = ModelConfig("test", TransformerConfig(32, 3, 2, 2), patch=8, window=window, chunk=H)
    model = WorldModel(tiny_spec(mounted), config)
    if (
        random_gates
    ):  # at initialisation every block is the identity: nothing would depend on anything
        for p in model.parameters():
            if not p.any():
                torch.nn.init.normal_(p, std=0.1)
    return model


def tiny_segment(seed: int = 0, batch: int = B) -> Segment:
    g = torch.Generator().manual_seed(seed)
    # one colour per patch: a picture that few numbers describe
    colours = torch.randint(0, 256, (batch, T + 1, C, 2, 2, 3), dtype=torch.uint8, generator=g)
    images = colours.repeat_interleave(SIDE // 2, -3).repeat_interleave(SIDE // 2, -2)
    plan_mask = torch.ones(batch, T, H, dtype=torch.bool)
    plan_mask[:, -1, 2:] = False
    return Segment(
        images, images[:, 0], torch.randn(batch, P, generator=g),
        torch.randn(batch, T + 1, P, generator=g),
        torch.ones(batch, T, dtype=torch.bool),
        torch.randn(batch, T, A, generator=g), torch.ones(batch, T, dtype=torch.bool),
        torch.randn(batch, T, H, A, generator=g), plan_mask,
        torch.rand(batch, T, 4, generator=g).round(),
    )  # fmt: skip


def inputs(model: WorldModel) -> tuple[Context, Leaves]:
    g = torch.Generator().manual_seed(1)
    N, Q = model.patches, 3 * 8**2

    def r(*shape):
        return torch.randn(*shape, generator=g)

    context = Context(
        r(B, T, N, Q), r(B, T, P), torch.rand(B, T, generator=g), r(B, T, A), torch.zeros(B, T),
        torch.zeros(B, T, dtype=torch.long),
    )  # fmt: skip
    leaves = Leaves(
        (0, 2), r(B, 2, N, Q), r(B, 2, P), torch.rand(B, 2, N + 1, generator=g),
        r(B, 2, N, Q), r(B, N, Q), r(B, P),
        r(B, T, M, H, A), torch.rand(B, T, M, H, generator=g),
        r(B, T - 1, A), torch.rand(B, T - 1, generator=g),
    )  # fmt: skip
    return context, leaves


def test_patches_are_an_inverse_pair() -> None:
    images = torch.randn(2, 3, 2, 16, 24, 3)
    patches = patchify(images, 8)
    assert patches.shape == (2, 3, 2 * 2 * 3, 192)
    assert torch.equal(unpatchify(patches, 2, (16, 24), 8), images)
    # rows first: the second patch stands to the right of the first
    assert torch.equal(patches[0, 0, 1].view(8, 8, 3), images[0, 0, 0, :8, 8:16])


def test_observe_and_show_are_an_inverse_pair() -> None:
    model, batch = tiny_model(), tiny_segment()
    patches, proprio = model.observe(batch.images, batch.proprio)
    assert torch.equal(model.show(patches), batch.images)
    torch.testing.assert_close(model.proprio_scale.inverse(proprio), batch.proprio)


def test_an_untrained_model_imagines_mostly_what_it_saw() -> None:
    """The read-out starts from a mixture of copies and grey, the change from none."""
    model = tiny_model(random_gates=False)
    context, leaves = inputs(model)
    prediction, _ = model(context, leaves)
    moved, first, body, _, turned = torch.tensor([2.0, 0.0, 0.0, 0.0, 0.0]).softmax(0)
    latest = moved + turned  # of cameras that stand still
    mixture = latest * leaves.latest + first * leaves.first[:, None] + body * prediction.body
    torch.testing.assert_close(prediction.next_patches, mixture)
    assert not prediction.next_change[..., 0].isnan().any()


def test_what_is_uncovered_can_be_copied_from_the_first_picture() -> None:
    model = tiny_model(random_gates=False)
    with torch.no_grad():
        model.paint.read.bias.view(4, -1)[:, 4] = 50.0
    context, leaves = inputs(model)
    prediction, _ = model(context, leaves)
    torch.testing.assert_close(prediction.next_patches, leaves.first[:, None].expand(-1, 2, -1, -1))


def test_the_body_is_drawn_in_the_pose_that_the_action_leads_to_and_from_nothing_else() -> None:
    model = tiny_model()
    context, leaves = inputs(model)
    body = model(context, leaves)[0].body
    other = leaves._replace(latest=-leaves.latest, next_patches=-leaves.next_patches)
    noisy = context._replace(patches=-context.patches)
    assert torch.equal(model(noisy, other)[0].body, body)
    moved = model(context._replace(action=-context.action), leaves)[0].body
    assert not torch.allclose(moved, body, atol=1e-4)
    with torch.no_grad():
        model.paint.read.bias.view(4, -1)[:, 5] = 50.0
    torch.testing.assert_close(model(context, leaves)[0].next_patches, body)


def test_what_is_copied_from_the_body_does_not_teach_it() -> None:
    model = tiny_model()
    prediction, _ = model(*inputs(model))
    prediction.next_patches.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.body.parameters())
    prediction, _ = model(*inputs(model))
    prediction.body.square().sum().backward()
    assert all(p.grad.any() for p in model.body.parameters())


def test_the_motion_is_learned_from_its_own_loss_alone_and_over_many_steps() -> None:
    model = tiny_model()
    prediction, _ = model(*inputs(model))
    prediction.next_change.sum().backward()
    assert all(p.grad is None for p in model.motion.parameters())
    for p in model.motion.parameters():
        torch.nn.init.zeros_(p)
    still, action = torch.ones(2, 1, P).expand(2, 5, P), torch.rand(2, 4, A)
    assert motion_loss(model, still, action) == 0
    with torch.no_grad():
        model.motion[-1].bias[0] = 0.1  # a small error that always goes the same way
    drift = motion_loss(model, still, action)
    errors = torch.tensor([0.1, 0.2, 0.3, 0.4]).square() / 2 / P
    torch.testing.assert_close(drift, errors.mean())


def test_waves_are_octaves() -> None:
    x = torch.tensor([[0.3, -1.0]])
    expected = [math.sin(2**k * v) for k in range(5) for v in (0.3, -1.0)]
    expected += [math.cos(2**k * v) for k in range(5) for v in (0.3, -1.0)]
    torch.testing.assert_close(waves(x)[0], torch.tensor(expected))


def test_shapes() -> None:
    model = tiny_model()
    context, leaves = inputs(model)
    prediction, features = model(context, leaves, feature_layer=1)
    assert prediction.next_patches.shape == leaves.next_patches.shape
    assert prediction.next_change.shape == leaves.next_change.shape
    assert prediction.plan.shape == leaves.plan.shape
    assert prediction.inverse.shape == leaves.inverse.shape
    assert prediction.outcome.shape == (B, T, 4)
    assert features.next.shape == (B, 2, model.patches + 1, 32)
    assert features.plan.shape == (B, T, M * H, 32)


def changed(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(T,) which steps differ."""
    return ((a - b).abs() > 1e-6).flatten(2).any(-1).any(0)


def test_changing_the_future_never_changes_the_past() -> None:
    model = tiny_model()
    context, leaves = inputs(model)
    before, _ = model(context, leaves)
    later = context._replace(patches=context.patches.clone(), proprio=context.proprio.clone())
    later.patches[:, 2] += 1
    later.proprio[:, 2] -= 1
    after, _ = model(later, leaves)
    assert changed(before.plan, after.plan).tolist() == [False, False, True]
    assert changed(before.outcome, after.outcome).tolist() == [False, False, True]
    assert changed(before.next_patches, after.next_patches).tolist() == [False, True]  # steps 0, 2


def test_an_action_changes_what_follows_but_not_its_own_plan() -> None:
    model = tiny_model()
    context, leaves = inputs(model)
    before, _ = model(context, leaves)
    acted = context._replace(action=context.action.clone())
    acted.action[:, 2] += 1
    after, _ = model(acted, leaves)
    assert changed(before.plan, after.plan).tolist() == [False, False, False]
    assert changed(before.next_patches, after.next_patches).tolist() == [False, True]


def test_a_leaf_never_changes_anything_else() -> None:
    model = tiny_model()
    context, leaves = inputs(model)
    before, _ = model(context, leaves)
    noise = torch.randn_like(leaves.plan[:, 1, 0])
    other = leaves._replace(plan=leaves.plan.clone(), next_patches=leaves.next_patches.clone())
    other.plan[:, 1, 0] = noise
    other.next_patches[:, 0] += 1
    after, _ = model(context, other)
    same = (before.plan - after.plan).abs().amax((0, 3, 4)) < 1e-6  # (T, M)
    assert same.tolist() == [[True, True], [False, True], [True, True]]
    assert changed(before.next_patches, after.next_patches).tolist() == [True, False]
    torch.testing.assert_close(before.inverse, after.inverse)
    torch.testing.assert_close(before.outcome, after.outcome)


def test_the_past_is_seen_through_the_window_and_not_beyond_a_cut() -> None:
    model = tiny_model()
    context, leaves = inputs(model)
    first = torch.tensor([[0, 0, 2]]).expand(B, T)
    before, _ = model(context._replace(first=first), leaves)
    past = context._replace(patches=context.patches.clone(), first=first)
    past.patches[:, 0] += 1
    after, _ = model(past, leaves)
    assert changed(before.plan, after.plan).tolist() == [True, True, False]


def test_constant_times_per_token_equal_the_scalar_time() -> None:
    model = tiny_model()
    x = torch.randn(B, 5, 32)
    table = model._rope([("plan", 0, 5)])
    scattered = torch.full((B, 5), 0.37)
    together, _ = model.trunk(x, scattered, table, None)
    apart = [model.trunk(x[i : i + 1], scattered[i : i + 1], table, None)[0] for i in range(B)]
    torch.testing.assert_close(together, torch.cat(apart))
    torch.testing.assert_close(model.trunk(x, scattered[:, :1], table, None)[0], together)
    torch.testing.assert_close(model.trunk(x, scattered[:1, :1], table, None)[0], together)
    mixed = scattered.clone()
    mixed[:, 2] = 0.9
    assert not torch.allclose(model.trunk(x, mixed, table, None)[0], together)


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
    fixed = {"time_spread": 0.0, "next_tail": 0.0, "plan_tail": 0.0}
    drawn = sample_time((50,), TimeDistribution(1.5, 0.0, 0.0), torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn, torch.full((50,), 1 / (1 + math.exp(-1.5))))
    early, late = (
        loss_of(tiny_model(), "flow", next_shift=shift, plan_shift=shift, **fixed)[0][1]
        for shift in (-3.0, 3.0)
    )
    # read-outs start at zero, so x_hat is 0 and the velocity's error is larger by 1 / t^2 below 1
    assert early["loss_plan"] > 3 * late["loss_plan"]


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


def test_an_image_that_patches_do_not_divide_is_refused() -> None:
    spec = dataclasses.replace(tiny_spec(), image_size=(20, 16))
    with pytest.raises(ValueError, match="not divisible by the patch 8"):
        WorldModel(spec, ModelConfig(trunk=TransformerConfig(32, 1, 2, 2), patch=8))


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
