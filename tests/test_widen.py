"""A widened model does what it did, whatever the new numbers say; and a suite begins with it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny import tiny_model

from worldmodel.errors import UserError
from worldmodel.model import WorldModel
from worldmodel.rollout import Imagination, RolloutConfig
from worldmodel.spec import DataSpec, FeatureStats
from worldmodel.widen import in_unit, widen, widens


def more(spec: DataSpec, n: int) -> DataSpec:
    """The same with n further numbers of proprioception, and other statistics of all."""

    def longer(stats: FeatureStats | None) -> FeatureStats:
        assert stats is not None
        parts = ("mean", "std", "min", "max", "q01", "q99")
        return FeatureStats(
            *(tuple(v + 0.1 for v in getattr(stats, k)) + (0.3,) * n for k in parts), count=7
        )

    return dataclasses.replace(
        spec, proprio_names=(*spec.proprio_names, *(f"task_{i} [1]" for i in range(n))),
        proprio_stats=longer(spec.proprio_stats), change_stats=longer(spec.change_stats),
        action_stats=longer(spec.action_stats), proprio_low=(), proprio_high=(),
    )  # fmt: skip


@pytest.mark.parametrize("mounted", [False, True])
def test_a_widened_model_predicts_the_same(mounted: bool) -> None:
    narrow = tiny_model(mounted=mounted).eval()
    spec = more(narrow.spec, 3)
    assert widens(narrow.spec, spec)
    wider = widen(narrow, spec).eval()
    assert (wider.spec.P, wider.spec.proprio_names) == (spec.P, spec.proprio_names)
    g = torch.Generator().manual_seed(0)
    C, (h, w), P, A = len(spec.cameras), spec.image_size, narrow.spec.P, spec.A
    images = torch.randint(0, 256, (2, C, h, w, 3), dtype=torch.uint8, generator=g)
    proprio = torch.randn(2, P, generator=g)
    # two steps: an untrained model magnifies rounding by six a step
    actions = torch.rand(2, 2, A, generator=g) - 0.5
    config = RolloutConfig(precision="fp32", context_noise=0.0)

    def run(model: WorldModel, extra: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        world = Imagination(
            model, images, torch.cat([proprio, extra], 1),
            generators=torch.Generator().manual_seed(1), config=config,
        )  # fmt: skip
        world._noise = lambda shape: torch.full((2, *shape), 0.5)  # the same for either P
        return [world.step(action) for action in actions][-1]

    seen, felt = run(narrow, torch.zeros(2, 0))
    for extra in (torch.zeros(2, 3), torch.ones(2, 3)):
        wide_seen, wide_felt = run(wider, extra)
        assert (seen.int() - wide_seen.int()).abs().max() <= 1
        torch.testing.assert_close(felt, wide_felt[:, :P], atol=1e-4, rtol=1e-4)


def test_other_proprioception_is_refused() -> None:
    model = tiny_model()
    spec = more(model.spec, 2)
    other = dataclasses.replace(spec, proprio_names=("x", *spec.proprio_names[1:]))
    assert not widens(model.spec, other)
    assert not widens(model.spec, model.spec)
    with pytest.raises(UserError, match="expected the checkpoint's"):
        widen(model, other)


def test_a_model_that_counts_rewards_in_another_unit_reads_the_same() -> None:
    one = tiny_model().eval()
    torch.nn.init.normal_(one.read_outcome.weight)
    torch.nn.init.normal_(one.read_outcome.bias)
    other = in_unit(one, 0.05).eval()
    assert (one.config.reward_unit, other.config.reward_unit) == (1.0, 0.05)
    assert not torch.equal(one.read_outcome.weight, other.read_outcome.weight)
    C, (h, w) = len(one.spec.cameras), one.spec.image_size
    images = torch.randint(0, 256, (2, C, h, w, 3), dtype=torch.uint8)
    read = [
        Imagination(
            model, images, torch.zeros(2, one.spec.P), generators=torch.Generator(),
            config=RolloutConfig(precision="fp32"),
        ).outcomes()
        for model in (one, other)
    ]  # fmt: skip
    assert torch.allclose(*read, atol=1e-5)
    back = in_unit(other, 1.0).read_outcome.weight
    assert torch.allclose(back, one.read_outcome.weight)
