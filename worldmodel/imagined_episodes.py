"""A policy's whole episodes inside the model, of which the outcome leaf says how they went."""

from __future__ import annotations

from collections.abc import Iterator
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
    success: bool  # as the model reads it; not where what it imagined has strayed

    def __len__(self) -> int:
        return len(self.action)


def play(
    policy: Actor, starts: Starts, model: WorldModel, steps: int, sampler: RolloutConfig,
    seed: int, worlds: int = 32,
) -> Iterator[tuple[int, ImaginedEpisode]]:  # fmt: skip
    """(i, episode i), of up to ``steps`` steps from start i, in the order in which they end.

    Episode i acts with seed + i. ``worlds`` are imagined at once; whose episode is over goes on
    with the next start.
    """
    n = len(starts)
    plays = np.arange(min(worlds, n))  # row -> which episode
    begun, busy = len(plays), np.ones(len(plays), bool)
    generators = generators_from(seed, n, model.grid.device)
    rows = generators[:begun]
    world = Imagination(model, *starts.take(plays), generators=rows, config=sampler)
    policy.reset([seed + int(i) for i in plays])
    verdicts, taken = Verdicts(begun), [_Take(starts, int(i)) for i in plays]
    while busy.any():
        now = [take.now() for take in taken]
        images, proprio = (np.stack(part) for part in zip(*now, strict=True))
        obs = {name: images[:, c] for c, name in enumerate(model.spec.cameras)}
        action = np.clip(policy.act({**obs, "proprio": proprio}), -1.0, 1.0)
        images, proprio = (x.cpu().numpy() for x in world.step(torch.from_numpy(action)))
        read = verdicts.read(world.outcomes())
        for row in np.flatnonzero(busy):
            taken[row].add(images[row], proprio[row], action[row])
        out_of_time = [len(take.action) >= steps for take in taken]
        over = np.flatnonzero(busy & (read.ended | read.strayed | out_of_time))
        for row in over:
            yield int(plays[row]), taken[row].episode(bool(read.success[row]))
        busy[over] = False
        fresh = over[: n - begun]
        if len(fresh):
            plays[fresh] = begun + np.arange(len(fresh))
            begun += len(fresh)
            busy[fresh] = True
            for row in fresh:
                taken[row], rows[row] = _Take(starts, int(plays[row])), generators[plays[row]]
            world.restart(fresh, *starts.take(plays[fresh]))
            verdicts.forget(fresh)
            mask = np.isin(np.arange(len(plays)), fresh)
            policy.reset([seed + int(i) for i in plays], mask)


class _Take:
    """An episode that is being imagined."""

    def __init__(self, starts: Starts, i: int) -> None:
        self.images, self.proprio = [starts.images[i]], [starts.proprio[i]]
        self.action: list[np.ndarray] = []

    def now(self) -> tuple[np.ndarray, np.ndarray]:
        return self.images[-1], self.proprio[-1]

    def add(self, images: np.ndarray, proprio: np.ndarray, action: np.ndarray) -> None:
        self.images.append(images)
        self.proprio.append(proprio.astype(np.float32))
        self.action.append(action)

    def episode(self, success: bool) -> ImaginedEpisode:
        return ImaginedEpisode(
            np.stack(self.images), np.stack(self.proprio), np.stack(self.action), success
        )
