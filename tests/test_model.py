"""The model: who influences whom, shapes, what is copied and what is drawn."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from tiny import A, B, H, M, P, T, inputs, tiny_model, tiny_segment, tiny_spec

from worldmodel.model import ModelConfig, WorldModel
from worldmodel.objective import (
    motion_loss,
)
from worldmodel.tokens import PatchStem, first_places, patchify, unpatchify, waves
from worldmodel.transformer import TransformerConfig


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
        model.motion[-1].bias[0] = 0.02  # a small error that always goes the same way
    drift = motion_loss(model, still, action)
    errors = torch.tensor([0.02, 0.04, 0.06, 0.08]).square() / 2 / P
    torch.testing.assert_close(drift, errors.mean())
    with torch.no_grad():
        model.motion[-1].bias[0] = 10.0  # far off it grows with the error, not with its square
    far = motion_loss(model, still, action)
    expected = 0.1 * (torch.tensor([10.0, 20.0, 30.0, 40.0]) - 0.05) / P
    torch.testing.assert_close(far, expected.mean())


def test_a_sum_that_is_a_quantity_of_its_own_is_learned_as_one() -> None:
    spec = tiny_spec()
    names = ("tcp_x [m]", "commanded_minus_tcp_x [m]", "commanded_minus_hand_rx [rad]")
    spec = dataclasses.replace(spec, proprio_names=names + spec.proprio_names[3:])
    assert spec.sums == ((1, 0),)
    config = tiny_model().config
    apart, together = WorldModel(tiny_spec(), config), WorldModel(spec, config)
    still, action = torch.ones(2, 1, P).expand(2, 2, P), torch.rand(2, 1, A)
    found = []
    for model in apart, together:
        for p in model.motion.parameters():
            torch.nn.init.zeros_(p)
        for second in (0.02, -0.02):
            with torch.no_grad():
                model.motion[-1].bias[:2] = torch.tensor([0.02, second])
            found.append(motion_loss(model, still, action))
    torch.testing.assert_close(found[0], found[1])  # each for itself
    torch.testing.assert_close(found[3], found[1])  # what they add up to is right
    torch.testing.assert_close(found[2] - found[0], torch.tensor(0.04**2 / 2))


def test_what_pictures_differ_in_reaches_the_tokens_of_a_new_stem() -> None:
    g = torch.Generator().manual_seed(0)
    pictures = 0.5 + torch.zeros(8, 3, 64, 64)
    for picture, (row, column) in zip(
        pictures, torch.randint(0, 58, (8, 2), generator=g), strict=True
    ):
        picture[:, row : row + 6, column : column + 6] = -0.5  # a can, a hundredth of the picture
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokens, _ = PatchStem(16, 256)(pictures)
    assert tokens.std(dim=0).mean() > 0.01  # 0.0003 with torch's own first weights


def test_places_say_where_and_in_which_camera() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = first_places(2, (64, 64), 16, 256)
    assert found.shape == (33, 256)
    assert found[-1].std() < 0.05  # proprioception stands nowhere
    first, second = found[:16].view(4, 4, -1), found[16:-1].view(4, 4, -1)
    between = (second - first).flatten(0, 1)
    torch.testing.assert_close(between, between[:1].expand_as(between))  # the cameras alone
    apart = torch.cdist(found[:16], found[:16]) + 1e3 * torch.eye(16)
    assert apart.min() > 0.2 * 16  # D = 256: a root mean square of a fifth
    near, far = (first[1, 1] - first[1, 2]).norm(), (first[1, 1] - first[3, 3]).norm()
    assert near < far


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
    table = model.rope([("plan", 0, 5)])
    scattered = torch.full((B, 5), 0.37)
    together, _ = model.trunk(x, scattered, table, None)
    apart = [model.trunk(x[i : i + 1], scattered[i : i + 1], table, None)[0] for i in range(B)]
    torch.testing.assert_close(together, torch.cat(apart))
    torch.testing.assert_close(model.trunk(x, scattered[:, :1], table, None)[0], together)
    torch.testing.assert_close(model.trunk(x, scattered[:1, :1], table, None)[0], together)
    mixed = scattered.clone()
    mixed[:, 2] = 0.9
    assert not torch.allclose(model.trunk(x, mixed, table, None)[0], together)


def test_an_image_that_patches_do_not_divide_is_refused() -> None:
    spec = dataclasses.replace(tiny_spec(), image_size=(20, 16))
    with pytest.raises(ValueError, match="not divisible by the patch 8"):
        WorldModel(spec, ModelConfig(trunk=TransformerConfig(32, 1, 2, 2), patch=8))
