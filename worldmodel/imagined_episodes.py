"""A policy's whole episodes inside the model, of which the outcome leaf says how they went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from worldmodel.model import WorldModel
from worldmodel.outcomes import Verdicts
from worldmodel.rollout import Imagination, RolloutConfig, generators_from
from worldmodel.starts import Starts
from worldmodel.trials import Actor


@dataclass(frozen=True)
class ImaginedEpisode:
    """T steps; o_n and a_n stand at the same n."""

    images: np.ndarray  # uint8 (T + 1, C, h, w, 3), the first is real
    proprio: np.ndarray  # float32 (T + 1, P)
    action: np.ndarray  # float32 (T, A)
    success: bool  # as the model reads it

    def __len__(self) -> int:
        return len(self.action)


def play(
    policy: Actor, starts: Starts, model: WorldModel, steps: int, sampler: RolloutConfig, seed: int
) -> list[ImaginedEpisode]:
    """One episode of up to ``steps`` steps from each start; episode i acts with seed + i."""
    n = len(starts)
    generators = generators_from(seed, n, model.grid.device)
    world = Imagination(model, *starts.take(np.arange(n)), generators=generators, config=sampler)
    policy.reset([seed + i for i in range(n)])
    seen, felt, acted = [starts.images], [starts.proprio], []
    success, length = np.zeros(n, bool), np.full(n, steps)
    verdicts = Verdicts(n)
    for step in range(steps):
        obs = {name: seen[-1][:, c] for c, name in enumerate(model.spec.cameras)}
        action = np.clip(policy.act({**obs, "proprio": felt[-1]}), -1.0, 1.0)
        images, proprio = world.step(torch.from_numpy(action))
        seen.append(images.cpu().numpy())
        felt.append(proprio.float().cpu().numpy())
        acted.append(action)
        read, going = verdicts.read(world.outcomes()), length == steps
        success |= read.success & going
        length = np.where(read.ended & going, step + 1, length)
        if (length <= step + 1).all():
            break
    return [
        ImaginedEpisode(
            _row(seen, i, T + 1), _row(felt, i, T + 1), _row(acted, i, T), bool(success[i])
        )
        for i, T in enumerate(length)
    ]  # fmt: skip


def _row(steps: Sequence[np.ndarray], row: int, count: int) -> np.ndarray:
    return np.stack([step[row] for step in steps[:count]])
