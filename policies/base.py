"""What a policy is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Policy(Protocol):
    """Acts in N envs at once. Row i depends on row i's observations and seed alone."""

    def reset(self, seeds: Sequence[int], mask: np.ndarray | None = None) -> None:
        """Start new episodes, one seed per row, in the rows of ``mask`` (N,) (None: all)."""
        ...

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """Actions float32 (N, A) for observations whose values lead with N."""
        ...


def reset_rows(seeds: Sequence[int], mask: np.ndarray | None, rows: int | None) -> np.ndarray:
    """The rows that start a new episode; ValueError when seeds, mask and row count disagree.

    ``rows`` is the number of rows so far (None before the first reset, which must start them all).
    """
    chosen = np.ones(len(seeds), bool) if mask is None else np.asarray(mask, bool)
    if len(chosen) != len(seeds):
        raise ValueError(
            f"reset: {len(seeds)} seeds but a mask of {len(chosen)} rows; give one of each per env"
        )
    if (rows is None or rows != len(seeds)) and not chosen.all():
        raise ValueError(
            f"reset: the policy has {rows or 0} rows and a mask for {len(seeds)}; "
            "a reset that changes the number of rows must start all of them"
        )
    return np.flatnonzero(chosen)


def row_generators(
    old: list[np.random.Generator], seeds: Sequence[int], mask: np.ndarray | None, stream: int
) -> list[np.random.Generator]:
    """One generator per row: new ones in the rows that start, ``old`` ones in the others.

    An env draws from default_rng(seed); ``stream`` >= 1 keeps actions from mirroring the scene.
    """
    rows = reset_rows(seeds, mask, len(old) or None)
    found = list(old) if len(old) == len(seeds) else [np.random.default_rng()] * len(seeds)
    for row in rows:
        found[row] = np.random.default_rng([int(seeds[row]), stream])
    return found
