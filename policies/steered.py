"""Model-predictive control by differences: a policy's plans, led by what is imagined of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies.chunking import ChunkPlayer
from policies.flow_policy import FlowPolicy
from worldmodel.spec import check_compatible
from worldmodel.steer import Steering


class SteeredPolicy:
    """Acts in N envs at once, like ``policy``, its plans led by ``steering``: a hand that goes to
    take a thing, to where the thing is."""

    def __init__(self, policy: FlowPolicy, steering: Steering) -> None:
        check_compatible(steering.world.spec, policy.spec)
        self.policy, self.steering = policy, steering
        self._player = ChunkPlayer(self._plan, policy.replan)

    def reset(self, seeds: Sequence[int], mask: np.ndarray | None = None) -> None:
        """Start new episodes in the rows that ``mask`` (N,) names (None: all), a seed per row."""
        self._player.reset(seeds, mask)

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """Actions float32 (N, A) for observations whose values lead with N."""
        self.policy.check(obs)
        return self._player.act(obs)

    def _plan(
        self, obs: dict[str, np.ndarray], rows: np.ndarray, seeds: np.ndarray, draws: np.ndarray
    ) -> np.ndarray:
        plans = self.policy.plan(obs, rows, seeds, draws)
        images = np.stack([obs[name] for name in self.policy.spec.cameras], axis=1)
        keys = np.abs(seeds.astype(np.int64)) * 1_000 + draws
        return self.steering.lead(plans, images, obs["proprio"].astype(np.float32), keys)
