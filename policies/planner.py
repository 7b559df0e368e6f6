"""Model-predictive control: sample plans, imagine each, play the start of the best."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from policies.chunking import ChunkPlayer
from policies.flow_policy import FlowPolicy
from worldmodel.errors import UserError
from worldmodel.model import WorldModel
from worldmodel.rollout import RolloutConfig, generators_from
from worldmodel.search import score_plans
from worldmodel.spec import check_compatible


class PlanningPolicy:
    """Acts in N envs at once, like the policy whose plans it chooses among."""

    def __init__(
        self, policy: FlowPolicy, candidates: int = 8, budget_ms: float | None = None,
        steps: int | None = None, config: RolloutConfig | None = None,
        world: WorldModel | None = None,
    ) -> None:  # fmt: skip
        """Of ``candidates`` plans of ``policy`` the one is played that comes out best in ``world``
        (None: the policy's own model) after ``steps`` imagined steps (None: the plan's length).

        ``budget_ms`` is the time that an action may take, on average over the steps played of a
        plan: the first plan tries 1, 2, 4, … candidates and keeps to what fits. Results then depend
        on the machine.
        """
        chunk = policy.model.config.chunk
        self.steps = chunk if steps is None else steps
        if candidates < 1 or not 1 <= self.steps <= chunk:
            raise UserError(
                f"candidates: got {candidates}, expected at least 1; steps: got {self.steps}, "
                f"expected 1 to {chunk}, the plan's length"
            )
        if budget_ms is not None and budget_ms <= 0:
            raise UserError(f"budget_ms: got {budget_ms}, expected a positive number, or none")
        self.policy, self.candidates, self.budget_ms = policy, candidates, budget_ms
        self.world = world or policy.model
        check_compatible(self.world.spec, policy.spec)
        self.config = config or RolloutConfig(flow_steps=1)
        self._measured = budget_ms is None
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
        if not self._measured:
            self._measure(obs, rows, seeds, draws)
        return self._best(obs, rows, seeds, draws, self.candidates)

    def _best(
        self, obs: dict[str, np.ndarray], rows: np.ndarray, seeds: np.ndarray, draws: np.ndarray,
        candidates: int,
    ) -> np.ndarray:  # fmt: skip
        """(n, H, A) the plan with the highest imagined return for each row."""
        n, N = len(rows), candidates
        many = {name: np.repeat(value, N, axis=0) for name, value in obs.items()}
        # candidate j of draw d has noise of its own, the first of them as the policy's
        draw = np.repeat(draws, N) + 1_000_003 * np.tile(np.arange(N), n)
        plans = self.policy.plan(many, np.repeat(rows, N), np.repeat(seeds, N), draw)
        plans = plans.reshape(n, N, *plans.shape[1:])
        if N == 1:
            return plans[:, 0]
        generators = [
            g
            for seed, d in zip(seeds, draws, strict=True)
            for g in generators_from(abs(int(seed)) * 1_000 + int(d), N)
        ]
        images = np.stack([obs[name] for name in self.policy.spec.cameras], axis=1)
        scores = score_plans(
            self.world, torch.from_numpy(images),
            torch.from_numpy(obs["proprio"].astype(np.float32)), torch.from_numpy(plans),
            self.steps, generators, self.config,
        )  # fmt: skip
        return plans[np.arange(n), scores.argmax(dim=1).cpu().numpy()]

    def _measure(
        self, obs: dict[str, np.ndarray], rows: np.ndarray, seeds: np.ndarray, draws: np.ndarray
    ) -> None:
        """Keep to as many candidates as the budget has time for; UserError when not even one."""
        assert self.budget_ms is not None
        allowed = self.budget_ms / 1000 * self.policy.replan
        fits, tried = 0, 1
        while tried <= self.candidates:
            self._best(obs, rows, seeds, draws, tried)  # the first is slow
            start = time.perf_counter()
            self._best(obs, rows, seeds, draws, tried)
            if time.perf_counter() - start > allowed:
                break
            fits, tried = tried, 2 * tried
        if not fits:
            raise UserError(
                f"budget_ms: {self.budget_ms} is too little for a single plan here; give more, or "
                "raise replan"
            )
        self.candidates, self._measured = fits, True
