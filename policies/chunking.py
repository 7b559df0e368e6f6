"""Playing a plan: act H steps from one look, and look again before they are used up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from policies.base import reset_rows

#: (observations of n rows, rows (n,), seeds (n,), draws (n,)) -> plans (n, H, A).
#: ``draws`` counts the plans a row has had in its episode: (seed, draw) names the plan's noise, so
#: that a row plans the same whatever stands beside it in the batch.
Planner = Callable[[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class ChunkPlayer:
    """Plays the plans of ``plan`` row by row, asking for a new one after ``replan`` steps.

    Rows are independent: each has its own place in its own plan, and ``plan`` gets the rows whose
    plan is used up, only those, in one batch.
    """

    def __init__(self, plan: Planner, replan: int) -> None:
        if replan < 1:
            raise ValueError(f"replan must be at least 1 step, got {replan}")
        self.plan, self.replan = plan, replan
        self._seeds = np.zeros(0, np.int64)

    def reset(self, seeds: Sequence[int], mask: np.ndarray | None = None) -> None:
        """Start new episodes in the rows that ``mask`` (N,) names; their plans are forgotten."""
        rows = reset_rows(seeds, mask, len(self._seeds) or None)
        if len(seeds) != len(self._seeds):
            self._seeds = np.zeros(len(seeds), np.int64)
            self._draws = np.zeros(len(seeds), np.int64)
            self._place = np.zeros(len(seeds), np.int64)
            self._chunks = np.zeros((len(seeds), 0, 0), np.float32)
        self._seeds[rows] = np.asarray(seeds, np.int64)[rows]
        self._draws[rows] = 0
        self._place[rows] = self.replan  # used up

    @property
    def due(self) -> np.ndarray:
        """The rows that will be planned for at the next :meth:`act`."""
        return np.flatnonzero(self._place >= self.replan)

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """The next action of every row, float32 (N, A)."""
        rows = self.due
        if rows.size:
            chosen = {key: value[rows] for key, value in obs.items()}
            chunks = self.plan(chosen, rows, self._seeds[rows], self._draws[rows])  # (n, H, A)
            if chunks.ndim != 3 or len(chunks) != len(rows) or chunks.shape[1] < self.replan:
                raise ValueError(
                    f"expected plans ({len(rows)}, H >= {self.replan}, A), got {chunks.shape}; "
                    "replan no later than the plan is long"
                )
            if self._chunks.shape[1:] != chunks.shape[1:]:
                self._chunks = np.zeros((len(self._seeds), *chunks.shape[1:]), np.float32)
            self._chunks[rows] = chunks
            self._place[rows] = 0
            self._draws[rows] += 1
        actions = self._chunks[np.arange(len(self._place)), self._place]
        self._place += 1
        return actions
