"""Any LeRobotDataset v3, ours or another's, read for looking at it: in bounded memory, as it is.

Layout and names: huggingface/lerobot (Apache-2.0), release 0.4, its dataset metadata; our own
additions are in worldmodel.lerobot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from worldmodel import lerobot
from worldmodel.errors import UserError
from worldmodel.pictures import decode, to_rgb


@dataclass(frozen=True)
class Library:
    """What meta/ says."""

    root: Path
    info: dict[str, Any]
    rows: list[dict[str, Any]]  # of meta/episodes, without statistics
    tasks: dict[int, str]

    @property
    def fps(self) -> float:
        return float(self.info["fps"])

    @property
    def cameras(self) -> list[str]:
        """Features that are pictures, as videos or in the tables."""
        kinds = {name: f.get("dtype") for name, f in self.info["features"].items()}
        return [name for name, kind in kinds.items() if kind in ("video", "image")]


@dataclass
class Range:
    """Statistics of a stream of numbers, per dimension."""

    dtype: str
    count: int
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    spread: np.ndarray  # sum of squared distances from the mean
    broken: int  # values that are not finite

    @property
    def std(self) -> np.ndarray:
        return np.sqrt(self.spread / max(self.count, 1))

    def add(self, x: np.ndarray) -> None:
        """Take in more values (n, dimensions)."""
        self.broken += int((~np.isfinite(x)).sum())
        x = x[np.isfinite(x).all(1)]
        if not len(x):
            return
        n, mean, total = len(x), x.mean(0), self.count + len(x)
        away = mean - self.mean
        self.spread += ((x - mean) ** 2).sum(0) + away**2 * self.count * n / total
        self.mean = self.mean + away * n / total
        self.low, self.high = np.minimum(self.low, x.min(0)), np.maximum(self.high, x.max(0))
        self.count = total


def open_library(path: str | Path) -> Library:
    """What is in ``path``; UserError when it is no dataset of version 3."""
    root = Path(path)
    if not root.is_dir():
        raise UserError(f"there is no dataset folder '{path}'")
    begun = lerobot.begun_by(root)
    if begun:
        raise UserError(f"{path} is not finished: run the same `worldmodel {begun}` command again")
    info = lerobot.read_json(root / lerobot.INFO)
    if info.get("codebase_version") != lerobot.VERSION:
        raise UserError(
            f"{path} is a LeRobotDataset {info.get('codebase_version')}, expected "
            f"{lerobot.VERSION}; convert it with lerobot's own converter"
        )
    missing = [key for key in ("fps", "features", "data_path") if not info.get(key)]
    if missing:
        raise UserError(f"{root / lerobot.INFO} has no {', '.join(missing)}; copy it again")
    files = sorted((root / "meta/episodes").rglob("*.parquet"))
    if not files:
        raise UserError(f"{root / 'meta/episodes'} has no parquet file; copy the dataset again")
    rows: list[dict[str, Any]] = []
    for file in files:
        table = lerobot.read_table(file)
        rows += table.select([n for n in table.column_names if n[:6] != "stats/"]).to_pylist()
    rows.sort(key=lambda row: row["episode_index"])
    return Library(root, info, rows, _tasks(root))


def _tasks(root: Path) -> dict[int, str]:
    if not (root / lerobot.TASKS).exists():
        return {}
    table = lerobot.read_table(root / lerobot.TASKS)
    words = [n for n in table.column_names if n != "task_index"]
    if not words:
        return {}
    rows = table.to_pylist()
    return {row["task_index"]: str(row[words[0]]) for row in rows}


def ranges(library: Library) -> dict[str, Range]:
    """Statistics of every column of numbers, over all frames."""
    found: dict[str, Range] = {}
    for file in _data_files(library):
        try:
            table = pq.ParquetFile(file)
            names = [n for n in table.schema_arrow.names if n not in library.cameras]
            for batch in table.iter_batches(batch_size=16384, columns=names):
                for name, column in zip(batch.schema.names, batch.columns, strict=True):
                    x, dtype = _numbers(column)
                    if x is None:
                        continue
                    if name not in found:
                        zero = np.zeros(x.shape[1])
                        found[name] = Range(
                            dtype, 0, zero + np.inf, zero - np.inf, zero, zero.copy(), 0
                        )
                    found[name].add(x)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{file} is truncated or corrupt ({error}); copy it again") from error
    return found


def _numbers(column: pa.Array) -> tuple[np.ndarray | None, str]:
    """A column as float64 (n, dimensions), lists of any depth flattened; None for other things."""
    n, flat = len(column), column
    while pa.types.is_list(flat.type) or pa.types.is_fixed_size_list(flat.type):
        flat = flat.flatten()
    kind = flat.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        return None, str(kind)
    values = flat.to_numpy(zero_copy_only=False).astype(np.float64)
    if not n or len(values) % n:
        return None, str(kind)
    return values.reshape(n, -1), str(kind)


def frames_of(library: Library, row: dict[str, Any], names: list[str]) -> dict[str, np.ndarray]:
    """Columns of one episode's frames, float64 (n, dimensions), where they are numbers."""
    table = _episode(library, row, names)
    found = {name: _numbers(table[name].combine_chunks())[0] for name in table.column_names}
    return {name: x for name, x in found.items() if x is not None}


def numbers_of_all(library: Library, names: list[str]) -> dict[int, dict[str, np.ndarray]]:
    """Columns of all frames, float64 (n, dimensions), by episode; every file is read once."""
    found: dict[int, dict[str, np.ndarray]] = {}
    for file in _data_files(library):
        there = pq.read_schema(file).names
        table = lerobot.read_table(file, [n for n in ("episode_index", *names) if n in there])
        columns = {n: _numbers(table[n].combine_chunks())[0] for n in table.column_names}
        owner = table["episode_index"].to_numpy()
        for index in np.unique(owner):
            mine = owner == index
            part = {n: x[mine] for n, x in columns.items() if x is not None}
            before = found.setdefault(int(index), {})
            for n, x in part.items():
                before[n] = np.concatenate([before[n], x]) if n in before else x
    return found


def _data_files(library: Library) -> list[Path]:
    files = sorted((library.root / "data").rglob("*.parquet"))
    return [file for file in files if file.name[0] != "."]


def _episode(library: Library, row: dict[str, Any], names: list[str]) -> pa.Table:
    file = library.root / library.info["data_path"].format(
        chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
    )
    if not file.exists():
        raise UserError(f"{file} is missing; copy the dataset again")
    there = pq.read_schema(file).names
    return pq.read_table(
        file, columns=[n for n in names if n in there],
        filters=[("episode_index", "==", row["episode_index"])],
    )  # fmt: skip


def dimension_names(library: Library, stream: str, width: int) -> list[str]:
    """Names of a stream's dimensions; v3 keeps a list, or a list in a dict."""
    names = library.info["features"].get(stream, {}).get("names")
    if isinstance(names, dict):
        names = next(iter(names.values()), None)
    if not isinstance(names, list) or len(names) != width:
        return [str(d) for d in range(width)]
    return [str(name) for name in names]


def pictures(library: Library, row: dict[str, Any], camera: str) -> Iterator[np.ndarray]:
    """What one camera saw in one episode, frame by frame, uint8 (h, w, 3)."""
    if library.info["features"][camera]["dtype"] == "image":
        column = _episode(library, row, [camera])[camera]
        for i, cell in enumerate(column):
            yield decode(cell["bytes"].as_py(), f"{camera}, frame {i}")
        return
    key = f"videos/{camera}"
    file = library.root / library.info["video_path"].format(
        video_key=camera, chunk_index=row[f"{key}/chunk_index"],
        file_index=row[f"{key}/file_index"],
    )  # fmt: skip
    found = 0
    for frame in _decode(file, row[f"{key}/from_timestamp"], library.fps):
        if found == row["length"]:
            return
        yield frame
        found += 1
    if found < row["length"]:
        raise UserError(
            f"{file}: episode {row['episode_index']} has {found} pictures there, expected "
            f"{row['length']}; copy it again"
        )


def _decode(file: Path, start: float, fps: float) -> Iterator[np.ndarray]:
    """The pictures from ``start`` [s] on."""
    import av

    if not file.exists():
        raise UserError(f"{file} is missing; copy the dataset again")
    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            if start > 0 and stream.time_base:
                container.seek(int(start / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if frame.time is None or frame.time >= start - 0.5 / fps:
                    yield to_rgb(frame)
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise UserError(f"{file} is truncated or corrupt ({error}); copy it again") from error
