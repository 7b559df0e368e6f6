"""Uniformly random actions: the floor that every other policy is measured against."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium
import numpy as np

from policies.base import row_generators


class RandomPolicy:
    """Actions drawn uniformly from the env's action box, from one generator per row."""

    def __init__(self, env: gymnasium.Env | gymnasium.vector.VectorEnv) -> None:
        space = getattr(env, "single_action_space", env.action_space)
        if not isinstance(space, gymnasium.spaces.Box) or not space.is_bounded():
            raise ValueError(f"a random policy needs a bounded Box of actions, got {space}")
        self.low, self.high = space.low, space.high
        self._generators: list[np.random.Generator] = []

    def reset(self, seeds: Sequence[int], mask: np.ndarray | None = None) -> None:
        """Seed the rows named by ``mask``."""
        self._generators = row_generators(self._generators, seeds, mask, stream=1)

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """(N, A) float32."""
        return np.stack([g.uniform(self.low, self.high) for g in self._generators]).astype(
            np.float32
        )
