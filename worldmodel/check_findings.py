"""What a check of a dataset finds, and what it has read so far."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from worldmodel.spec import DataSpec

AGAIN = "collect or copy that file again"


@dataclass(frozen=True)
class Problem:
    """One finding; ``serious`` ones make a dataset unfit for training, the others want a look."""

    file: str  # within the dataset
    what: str  # got, expected
    repair: str
    serious: bool = True

    def __str__(self) -> str:
        return f"{'ERROR' if self.serious else 'note '} {self.file}: {self.what}; {self.repair}"


@dataclass
class Parts:
    """What could be read so far; None where it could not."""

    root: Path
    info: dict[str, Any] | None = None
    spec: DataSpec | None = None
    rows: list[dict[str, Any]] | None = None
    frames: pa.Table | None = None


def matrix(frames: pa.Table, column: str) -> np.ndarray:
    """A column of lists as float64 (n, d)."""
    flat = frames[column].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(frames), -1).astype(np.float64)


def where(rows: list[dict[str, Any]], frame: int) -> str:
    row = next(r for r in rows if r["dataset_from_index"] <= frame < r["dataset_to_index"])
    return f"episode {row['episode_index']}, step {frame - row['dataset_from_index']}"


def some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (" …" if len(numbers) > 5 else "")


def rounded(values: np.ndarray) -> list[float]:
    return [round(float(v), 4) for v in values]
