"""Several datasets of the same robot as one: the first one's episodes first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from worldmodel import lerobot
from worldmodel.dataset_writer import write_tables
from worldmodel.errors import UserError
from worldmodel.spec import DataSpec, check_compatible


@dataclass(frozen=True)
class MergeConfig:
    sources: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "dataset folders. Training holds out the last episodes: put last what shall "
            "be judged by"
        },
    )

    def __post_init__(self) -> None:
        if len(set(self.sources)) < 2:
            raise ValueError(
                f"sources: got {list(self.sources)}, expected at least two folders, as in "
                "sources=[data/a,data/b]"
            )


def merge(
    sources: Sequence[Path], out: Path, on_progress: Callable[[int, str], None] | None = None
) -> dict[str, Any]:
    """Write all episodes of ``sources`` into ``out``, and return a summary. Videos are linked where
    the disk can, else copied.

    UserError where a source is not finished, or of other cameras, numbers, frequency or mounts, or
    where ``out`` holds something; nothing is written then.
    """
    specs = [_spec(source) for source in sources]
    for spec in specs[1:]:
        check_compatible(spec, specs[0])
    if any((out / part).exists() for part in ("meta", "data", "videos")):
        raise UserError(f"{out} already holds a dataset; choose another out=…")
    tasks = tuple(dict.fromkeys(task for spec in specs for task in spec.tasks))
    rows, tables, files = [], [], 0
    try:
        for source, spec in zip(sources, specs, strict=True):
            theirs, table = _tables(source)
            number = np.array([tasks.index(task) for task in spec.tasks])
            table = _shifted(table, len(rows), number)
            numbers = {key: files + i for i, key in enumerate(sorted(_videos(theirs, spec)))}
            for row in theirs:
                row["episode_index"] += len(rows)
                for camera in spec.cameras:
                    _link(source, out, row, camera, numbers)
            files += len(numbers)
            rows += theirs
            tables.append(table)
            if on_progress:
                on_progress(len(theirs), str(source))
        attempts = sum(
            lerobot.read_json(s / lerobot.SPEC).get("summary", {}).get("attempts", 0)
            for s in sources
        )
        return write_tables(
            out, replace(specs[0], tasks=tasks), rows, pa.concat_tables(tables),
            max(attempts, len(rows)), files, {"merged": [str(s) for s in sources]},
        )  # fmt: skip
    except BaseException:
        for part in ("meta", "data", "videos"):  # half a dataset is none
            shutil.rmtree(out / part, ignore_errors=True)
        raise


def _spec(source: Path) -> DataSpec:
    if begun := lerobot.begun_by(source):
        raise UserError(
            f"{source} is not finished: run the same `worldmodel {begun}` command again"
        )
    about = lerobot.read_json(source / lerobot.SPEC)
    if "spec" not in about:
        raise UserError(f"{source / lerobot.SPEC} has no 'spec'; see `worldmodel data convert`")
    return DataSpec.from_json(about["spec"])


def _tables(source: Path) -> tuple[list[dict[str, Any]], pa.Table]:
    """Its episodes, and its frames in their order."""
    rows = lerobot.read_table(source / lerobot.EPISODES).to_pylist()
    files = sorted((source / "data").rglob("*.parquet"))
    if not files:
        raise UserError(f"{source / 'data'} has no parquet file; copy the dataset again")
    table = pa.concat_tables([lerobot.read_table(f) for f in files])
    if len(table) != sum(row["length"] for row in rows):
        raise UserError(f"{source}: the tables of frames and of episodes do not fit each other")
    return rows, table


def _shifted(table: pa.Table, episodes: int, task: np.ndarray) -> pa.Table:
    """With numbers of episodes and tasks as in the whole."""
    for name, values in (
        ("episode_index", table["episode_index"].to_numpy() + episodes),
        ("task_index", task[table["task_index"].to_numpy()]),
    ):
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    return table.drop_columns("index")


def _place(row: dict[str, Any], camera: str) -> tuple[int, int]:
    key = f"videos/{lerobot.video_key(camera)}"
    return row[f"{key}/chunk_index"], row[f"{key}/file_index"]


def _videos(rows: Sequence[dict[str, Any]], spec: DataSpec) -> set[tuple[int, int]]:
    return {_place(row, camera) for row in rows for camera in spec.cameras}


def _link(
    source: Path, out: Path, row: dict[str, Any], camera: str, numbers: dict[tuple[int, int], int]
) -> None:
    """The row's video into ``out``, under the number that it has there."""
    chunk, index = _place(row, camera)
    key = lerobot.video_key(camera)
    name = lerobot.VIDEO.format(video_key=key, chunk_index=chunk, file_index=index)
    number = numbers[chunk, index]
    there = out / lerobot.video_path(camera, number)
    if not there.exists():
        there.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source / name, there)
        except FileNotFoundError as error:
            raise UserError(f"{source / name} is missing; copy that file") from error
        except OSError:  # another disk, or one without links
            shutil.copyfile(source / name, there)
    chunk, index = divmod(number, lerobot.FILES_PER_CHUNK)
    row |= {f"videos/{key}/chunk_index": chunk, f"videos/{key}/file_index": index}
