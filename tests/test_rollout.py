"""Imagining: shapes, seeds, batches, and a model that is right by construction."""

from __future__ import annotations

import pytest
import torch
from test_model import SIDE, A, C, P, tiny_model, tiny_segment

from worldmodel.rollout import RolloutConfig, rollout


def imagine(model, batch, steps: int, seed: int = 0, act=None, method: str = "euler"):
    chosen = act or (lambda n, images, proprio: torch.full((len(images), A), 0.1 * n))
    return rollout(
        model, batch.images[:, 0], batch.proprio[:, 0], chosen, steps,
        RolloutConfig(flow_steps=3, method=method), torch.Generator().manual_seed(seed),
    )  # fmt: skip


@pytest.mark.parametrize("method", ["euler", "heun"])
def test_shapes_and_seeds(method: str) -> None:
    model, batch = tiny_model().eval(), tiny_segment()
    first, again, other = (imagine(model, batch, 5, seed, method=method) for seed in (0, 0, 1))
    assert first.images.shape == (2, 5, C, SIDE, SIDE, 3)
    assert first.images.dtype == torch.uint8
    assert first.proprio.shape == (2, 5, P)
    assert first.action.shape == (2, 5, A)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_actions_matter_and_only_from_their_step_on() -> None:
    model, batch = tiny_model().eval(), tiny_segment()
    still = imagine(model, batch, 4, act=lambda n, i, p: torch.zeros(2, A))
    moved = imagine(model, batch, 4, act=lambda n, i, p: torch.full((2, A), float(n >= 2)))
    assert torch.equal(still.proprio[:, :2], moved.proprio[:, :2])
    assert not torch.equal(still.proprio[:, 2:], moved.proprio[:, 2:])


def test_the_actor_sees_what_was_imagined_last() -> None:
    model, batch, seen = tiny_model().eval(), tiny_segment(), []

    def act(n, images, proprio):
        seen.append((images, proprio))
        return torch.zeros(2, A)

    found = imagine(model, batch, 3, act=act)
    assert torch.equal(seen[0][0], batch.images[:, 0])
    for n in (1, 2):
        assert torch.equal(seen[n][0], found.images[:, n - 1])
        torch.testing.assert_close(seen[n][1], found.proprio[:, n - 1])


def test_only_the_window_counts(monkeypatch) -> None:
    """With W = 1 only the latest observation counts: a rollout may be cut and gone on with."""
    model, batch = tiny_model(window=1).eval(), tiny_segment()
    config = RolloutConfig(flow_steps=1, context_noise=0.0)
    # noise would tell the two rollouts apart
    monkeypatch.setattr(torch, "randn", lambda shape, generator: torch.zeros(shape))

    def go(images, proprio, steps):
        return rollout(
            model, images, proprio, lambda n, i, p: torch.zeros(2, A), steps, config,
            torch.Generator().manual_seed(0),
        )  # fmt: skip

    whole = go(batch.images[:, 0], batch.proprio[:, 0], 4)
    half = go(batch.images[:, 0], batch.proprio[:, 0], 2)
    rest = go(half.images[:, -1], half.proprio[:, -1], 2)
    # rounding to uint8 between the two halves is all that differs
    torch.testing.assert_close(whole.proprio[:, 2:], rest.proprio, atol=0.05, rtol=0.05)
