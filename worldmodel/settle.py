"""What the trunk may correct of the robot's own motion, decided by how long rollouts go.

The motion network knows what the robot does by itself; the trunk, which sees the scene, corrects
it. The correction is learned one step at a time, and what gains there may still make a rollout
drift: of the arm's pose the motion network alone is better, of the gripper's opening, which a can
between the fingers decides, the correction is (docs/log.md).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from worldmodel.model import WorldModel
from worldmodel.objective import Segment
from worldmodel.rollout import Imagination, RolloutConfig, generators_from
from worldmodel.windows import Windows

STRETCHES = 48  # recordings that are imagined


def settle(
    model: WorldModel, windows: Windows, sampler: RolloutConfig | None = None, seed: int = 0
) -> tuple[str, ...]:
    """The numbers of proprioception whose mean error, along recorded actions of ``windows``, is
    smaller with the trunk's correction than without it; none where no actions are known."""
    rng = np.random.default_rng(seed)
    batch = windows.sample(STRETCHES, rng, demonstrations=0.5)
    kept = batch.exists.all(axis=1) & batch.known.all(axis=1)
    if not kept.any():
        return ()
    segment = Segment.of(type(batch)(*(x[kept] for x in batch)), model.grid.device)
    names = model.spec.proprio_names
    with_it, without = (
        _drift(_corrects(model, which), segment, sampler or RolloutConfig(), seed)
        for which in (names, ())
    )
    return tuple(n for n, a, b in zip(names, with_it, without, strict=True) if a < b)


def _corrects(model: WorldModel, names: tuple[str, ...]) -> WorldModel:
    """The same weights with another choice of what is corrected."""
    config = dataclasses.replace(model.config, correct=names)
    other = WorldModel(model.spec, config).to(model.grid.device)
    other.load_state_dict(model.state_dict())
    return other.eval().requires_grad_(False)


def settled(model: WorldModel, windows: Windows) -> WorldModel:
    """The model with what :func:`settle` chooses."""
    return _corrects(model, settle(model, windows))


def _drift(model: WorldModel, batch: Segment, sampler: RolloutConfig, seed: int) -> np.ndarray:
    """(P,) mean absolute error of proprioception over all steps and recordings."""
    world = Imagination(
        model, batch.images[:, 0], batch.proprio[:, 0], config=sampler,
        generators=generators_from(seed, len(batch.action)),
    )  # fmt: skip
    wrong = [
        (world.step(action)[1] - truth).abs()
        for action, truth in zip(
            batch.action.unbind(1), batch.proprio[:, 1:].unbind(1), strict=True
        )
    ]
    return torch.stack(wrong).mean(dim=(0, 1)).cpu().numpy()
