"""Another policy with noise on its actions: policies of any quality, for comparing judges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies.base import Policy, row_generators


class NoisyPolicy:
    """What ``policy`` does, plus Gaussian noise of this standard deviation, clipped to [-1, 1].

    Each row has its own noise, from its seed.
    """

    def __init__(self, policy: Policy, noise: float) -> None:
        if noise < 0:
            raise ValueError(f"noise: got {noise}, expected a standard deviation of at least 0")
        self.policy, self.noise = policy, noise
        self._generators: list[np.random.Generator] = []

    def reset(self, seeds: Sequence[int], mask: np.ndarray | None = None) -> None:
        """Start new episodes in the rows that ``mask`` (N,) names (None: all), a seed per row."""
        self._generators = row_generators(self._generators, seeds, mask, stream=2)
        self.policy.reset(seeds, mask)

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """(N, A) float32."""
        actions = self.policy.act(obs)
        noise = np.stack([g.normal(size=actions.shape[1]) for g in self._generators])
        return np.clip(actions + self.noise * noise, -1.0, 1.0).astype(np.float32)
