"""Another policy, acting on what a model imagines instead of on what there is to see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from policies.base import Policy, reset_rows
from worldmodel.model import WorldModel
from worldmodel.rollout import Imagination, RolloutConfig, generators_from


class OpenLoopPolicy:
    """``policy`` as it acts inside ``model``: of an episode it sees the first observation, and from
    then on what the model imagines to follow from its actions.

    In the simulator it tells whether actions that succeed in imagination do so in truth; what it
    collects there is where the two part. Row i depends on its own first observation and seed.
    """

    def __init__(
        self, policy: Policy, model: WorldModel, config: RolloutConfig | None = None
    ) -> None:
        self.policy, self.model, self.config = policy, model, config or RolloutConfig()
        self._world: Imagination | None = None
        self._starting = np.zeros(0, bool)
        self._seeds = np.zeros(0, np.int64)

    def reset(self, seeds: Sequence[int], mask: np.ndarray | None = None) -> None:
        """Start new episodes in the rows that ``mask`` (N,) names (None: all), a seed per row."""
        rows = reset_rows(seeds, mask, len(self._seeds) or None)
        if len(rows) == len(seeds):
            self._world = None
        starting = np.zeros(len(seeds), bool)
        starting[rows] = True
        same = len(self._starting) == len(seeds)
        self._starting = starting | self._starting if same else starting
        self._seeds = np.where(starting, np.asarray(seeds), self._seeds if same else 0)
        self.policy.reset(seeds, mask)

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """(N, A) float32; of ``obs`` only the rows that start are looked at."""
        world = self._look(obs)
        seen, felt = world.show().cpu().numpy(), world.proprio.float().cpu().numpy()
        cameras = {name: seen[:, c] for c, name in enumerate(self.model.spec.cameras)}
        action = np.clip(self.policy.act({**cameras, "proprio": felt}), -1.0, 1.0)
        world.step(torch.from_numpy(action))
        return action.astype(np.float32)

    def _look(self, obs: dict[str, np.ndarray]) -> Imagination:
        """The worlds, begun anew from ``obs`` in the rows that start."""
        rows = np.flatnonzero(self._starting)
        if not len(rows) and self._world is not None:
            return self._world
        images = np.stack([obs[name][rows] for name in self.model.spec.cameras], axis=1)
        first = torch.from_numpy(images), torch.from_numpy(obs["proprio"][rows]).float()
        generators = [generators_from(abs(int(self._seeds[r])), 1)[0] for r in rows]
        if self._world is None:
            self._world = Imagination(self.model, *first, generators=generators, config=self.config)
        else:
            self._world.restart(rows, *first)
            mixed = list(self._world.generators)
            for row, generator in zip(rows, generators, strict=True):
                mixed[row] = generator
            self._world.generators = mixed
        self._starting[:] = False
        return self._world
