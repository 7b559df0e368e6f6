"""What an update learns from: fresh segments, rehearsed ones, and more of the robot alone."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodel.objective import Segment
from worldmodel.rehearsal import REFRESH, Stage, dream_along, rehearse
from worldmodel.train_state import TrainState

if TYPE_CHECKING:
    from worldmodel.train import TrainConfig
    from worldmodel.windows import Windows

MOTION_STEPS = 16  # that the robot's motion goes on from itself while it is learned


class Robot(NamedTuple):
    """Further data of which the robot's own picture and its own motion are learned."""

    images: Tensor  # uint8 (M, C, h, w, 3)
    pose: Tensor  # (M, P) proprioception then
    proprio: Tensor  # (R, L + 1, P)
    action: Tensor  # (R, L, A)


def next_batch(
    state: TrainState, windows: Windows, config: TrainConfig, context: AbstractContextManager
) -> tuple[Segment, Tensor | None, Robot | None]:
    """The segments of the next update, rehearsed ones first, the imagined pictures of those, and
    what it learns of the robot besides."""
    device, share, ranks = state.model.grid.device, config.demonstrations, state.ranks
    if ranks.own_noise:
        state.generator.manual_seed(own_seed(config.seed, state.step, ranks.rank))
    ready = state.step >= config.rehearse_after * config.steps
    rows = round(config.rehearse * config.batch) if ready else 0
    fresh = windows.sample(config.batch - rows, state.rng, share, ranks.rows(rows))
    batch = Segment.of(fresh, device)
    dreamt = robot = None
    if rows and (state.dreams is None or state.step % REFRESH == 0):
        if state.stage is None:
            state.stage = Stage(state.teacher, len(range(config.batch)[ranks.rows()]), ranks)
        stage = state.stage
        with context, torch.no_grad():
            state.dreams = state.nets(
                lambda _: dream_along(
                    stage,
                    windows,
                    config.batch,
                    config.rehearse_steps,
                    share,
                    state.rng,
                    state.generator,
                    ranks,
                )
            )
    if rows and state.dreams is not None:
        rehearsed, dreamt = rehearse(state.dreams, windows, rows, state.rng, ranks.rows())
        batch = Segment(*(torch.cat(pair) for pair in zip(rehearsed, batch, strict=True)))
    if config.robot_samples:
        seen = windows.frames(config.robot_samples, state.rng, ranks.rows())
        moved = windows.motions(config.robot_samples, MOTION_STEPS, state.rng, ranks.rows())
        robot = Robot(*(torch.as_tensor(x).to(device) for x in (*seen, *moved)))
    return batch, dreamt, robot


def own_seed(seed: int, step: int, rank: int) -> int:
    """A seed of its own for each update of each process."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)
