"""Imagining: shapes, seeds, batches, cuts, drivers and refusals."""

from __future__ import annotations

import pytest
import torch
from tiny import SIDE, A, C, P, tiny_model, tiny_segment

from worldmodel.errors import UserError
from worldmodel.rollout import (
    Imagination,
    RolloutConfig,
    generators_from,
    imagine,
    placed,
    rollout,
)

CONFIG = RolloutConfig(flow_steps=3, precision="fp32")


def world(seed: int = 0, config: RolloutConfig = CONFIG, rows: slice = slice(None)) -> Imagination:
    batch = tiny_segment()
    generators = generators_from(seed, 2)[rows]
    return Imagination(
        tiny_model().eval(), batch.images[rows, 0], batch.proprio[rows, 0],
        generators=generators, config=config,
    )  # fmt: skip


def actions(steps: int) -> torch.Tensor:
    return torch.rand(2, steps, A, generator=torch.Generator().manual_seed(9)) * 2 - 1


@pytest.mark.parametrize("method", ["euler", "heun"])
def test_shapes_and_seeds(method: str) -> None:
    config = RolloutConfig(flow_steps=3, method=method, precision="fp32")
    first, again, other = (imagine(world(seed, config), actions(5), 5) for seed in (0, 0, 1))
    assert first[0].shape == (2, 5, C, SIDE, SIDE, 3)
    assert first[0].dtype == torch.uint8
    assert first[1].shape == (2, 5, P)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_imagined_pictures_can_be_learned_from() -> None:
    images, proprio = world().step(torch.zeros(2, A))
    weight = torch.ones(P, requires_grad=True)
    (images.float().mean() + (proprio * weight).sum()).backward()
    assert torch.allclose(weight.grad, proprio.sum(0))


def test_how_a_rollout_is_cut_into_calls_changes_nothing() -> None:
    whole = imagine(world(), actions(10), 10)
    one = world()
    parts = [imagine(one, actions(10)[:, i:], n) for i, n in ((0, 1), (1, 5), (6, 4))]
    for k in (0, 1):
        assert torch.equal(whole[k], torch.cat([part[k] for part in parts], dim=1))


def test_a_batch_equals_its_members() -> None:
    together = imagine(world(), actions(8), 8)
    for i in (0, 1):
        rows = slice(i, i + 1)
        alone = imagine(world(rows=rows), actions(8)[rows], 8)
        assert (alone[0].int() - together[0][rows].int()).abs().max() <= 1  # rounding to uint8
        torch.testing.assert_close(alone[1], together[1][rows], atol=1e-4, rtol=1e-3)


def test_actions_matter_and_only_from_their_step_on() -> None:
    other = actions(4)
    other[:, 2:] *= -1
    first, second = (imagine(world(), a, 4)[1] for a in (actions(4), other))
    assert torch.equal(first[:, :2], second[:, :2])
    assert not torch.equal(first[:, 2:], second[:, 2:])


def test_a_policy_sees_what_was_imagined_last_and_a_recording_of_it_gives_the_same() -> None:
    seen, played = [], []

    def act(images: torch.Tensor, proprio: torch.Tensor) -> torch.Tensor:
        seen.append((images, proprio))
        played.append(proprio[:, :A].clamp(-1, 1))
        return played[-1]

    images, proprio, *_ = imagine(world(), act, 4)
    assert torch.equal(seen[0][0], tiny_segment().images[:, 0])
    for n in (1, 2, 3):
        assert torch.equal(seen[n][0], images[:, n - 1])
        assert torch.equal(seen[n][1], proprio[:, n - 1])
    again = imagine(world(), torch.stack(played, dim=1), 4)
    assert torch.equal(again[0], images)


def test_without_actions_other_actions_are_not_heard() -> None:
    frames = list(rollout(world(), None, 3))
    assert [f.action for f in frames] == [None] * 3
    assert not torch.equal(frames[0].images, next(rollout(world(), actions(3), 3)).images)


def test_a_longer_context_is_remembered() -> None:
    batch, model = tiny_segment(), tiny_model().eval()
    generators = generators_from(0, 2)
    long = Imagination(
        model, batch.images[:, :3], batch.proprio[:, :3], batch.action[:, :2].clamp(-1, 1),
        generators=generators, config=CONFIG,
    )  # fmt: skip
    assert long.memory.step == 2
    short = Imagination(
        model, batch.images[:, 2], batch.proprio[:, 2], generators=generators_from(0, 2),
        config=CONFIG,
    )  # fmt: skip
    a = actions(1)[:, 0]
    assert not torch.equal(long.step(a)[1], short.step(a)[1])


def test_what_does_not_fit_is_refused() -> None:
    batch, model = tiny_segment(), tiny_model().eval()
    g = generators_from(0, 2)

    def begin(images=batch.images[:, 0], proprio=batch.proprio[:, 0], **more):
        return Imagination(model, images, proprio, **{"generators": g, **more})

    with pytest.raises(UserError, match=r"images: got .* front, wrist of 16x16"):
        begin(batch.images[:, 0, :1])
    with pytest.raises(UserError, match=r"proprio: got \(2, 1, 4\)"):
        begin(proprio=batch.proprio[:, 0, :4])
    with pytest.raises(UserError, match="proprio: not finite"):
        begin(proprio=torch.full_like(batch.proprio[:, 0], torch.nan))
    with pytest.raises(UserError, match=r"images: got \(7,\)"):
        begin(torch.zeros(7, dtype=torch.uint8))
    pair = {"images": batch.images[:, :2], "proprio": batch.proprio[:, :2]}
    with pytest.raises(UserError, match=r"up to 2, expected -1 to 1"):
        begin(**pair, action=torch.full((2, 1, A), 2.0))
    with pytest.raises(UserError, match=r"action: got torch.int64"):
        begin(**pair, action=torch.zeros(2, 1, A, dtype=torch.int64))
    begin(**pair, action=torch.zeros(2, 1, A, dtype=torch.float64))  # as numpy has it
    with pytest.raises(UserError, match="uint8"):
        begin(batch.images[:, 0].float())
    with pytest.raises(UserError, match="generators: got 3"):
        begin(generators=generators_from(0, 3))
    with pytest.raises(UserError, match="window: got 9, expected 1 to 3"):
        begin(config=RolloutConfig(window=9))
    one = begin()
    for action, message in (
        (torch.zeros(2, A + 1), r"got \(2, 4\)"),
        (torch.full((2, A), torch.nan), "not finite"),
        (torch.full((2, A), 1.5), r"up to 1\.5, expected -1 to 1"),
    ):
        before = one.memory.step
        with pytest.raises(UserError, match=message):
            one.step(action)
        assert one.memory.step == before
    with pytest.raises(UserError, match="4 or more"):
        next(rollout(one, actions(3), 4))
    with pytest.raises(ValueError, match="flow_steps"):
        RolloutConfig(flow_steps=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_placed_model_imagines_the_same(precision: str) -> None:
    """Its weights are laid out, and rounded once, as they would be at every use."""
    config = RolloutConfig(precision=precision, device="cpu")
    frames = []
    for place in (lambda model, _: model, placed):
        model = tiny_model(mounted=True)
        with torch.no_grad():  # in an untrained model errors of rounding grow tenfold a step
            for layer in (*model.embed_obs.stem.convolutions, model.embed_obs.stem.project):
                layer.weight.mul_(0.4)
        model = place(model, config).eval()
        g = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (2, C, SIDE, SIDE, 3), dtype=torch.uint8, generator=g)
        world = Imagination(
            model, images, torch.rand(2, P, generator=g), generators=g, config=config
        )
        actions = 2 * torch.rand(2, 4, A, generator=g) - 1
        made = list(rollout(world, actions, 4))
        frames.append([*made, world.outcomes()])
    ours, theirs = frames
    for a, b in zip(ours[:-1], theirs[:-1], strict=True):
        assert (a.images.int() - b.images.int()).abs().max() <= (1 if precision == "fp32" else 0)
        torch.testing.assert_close(a.proprio, b.proprio, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours[-1], theirs[-1], rtol=1e-4, atol=1e-4)
