"""LeRobotDatasets of version 3 by others, which say nothing of what ours says of itself.

A frame has an observation and the action taken at it. Nothing was seen after the last action: it is
left out. Where ``next.success`` and ``next.reward`` are there, they belong to the action.
[huggingface/lerobot (Apache-2.0), release 0.4]
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel import lerobot
from worldmodel.browse import Library, dimension_names, numbers_of_all, open_library, pictures
from worldmodel.errors import UserError
from worldmodel.takes import Source, Take, Wanted, choose, same_length, vectors

FLAGS = ("next.reward", "next.success")


def read_lerobot(folder: Path, wanted: Wanted) -> Source:
    """Every episode of the dataset in ``folder``."""
    library = open_library(folder)
    features = library.info["features"]
    short = {name.removeprefix("observation.images."): name for name in library.cameras}
    cameras = choose("cameras", wanted.cameras, list(short), str(folder))
    if not cameras:
        raise UserError(f"{folder}: has no pictures, only {', '.join(features)}")
    there = [k for k, f in features.items() if "float" in f["dtype"] and "action" not in k
             and k not in ("timestamp", *FLAGS)]  # fmt: skip
    keys = wanted.proprio or tuple(k for k in ("observation.state",) if k in there)
    keys = choose("proprio", keys, there, str(folder)) if keys else []
    acting = "action" in features
    columns = [*keys, *(["action"] if acting else []), *(f for f in FLAGS if f in features)]
    numbers, chosen = numbers_of_all(library, columns), {c: short[c] for c in cameras}
    takes = [
        _take(library, row, chosen, keys, columns, numbers.get(row["episode_index"], {}))
        for row in library.rows
    ]
    names = [n for k in keys for n in _names(library, k)]
    actions = [f"{n} [1]" if "[" not in n else n for n in _names(library, "action")]
    files = [f for part in ("meta", "data", "videos") for f in sorted((folder / part).rglob("*.*"))]
    return Source(
        "lerobot", takes, tuple(names), tuple(actions) if acting else (), files, library.fps
    )


def is_lerobot(folder: Path) -> bool:
    return (folder / lerobot.INFO).exists()


def _names(library: Library, stream: str) -> list[str]:
    shape = library.info["features"].get(stream, {}).get("shape", [0])
    names = dimension_names(library, stream, int(np.prod(shape)))
    return [f"{stream} {n}" if n.isdigit() else n for n in names]


def _take(
    library: Library, row: dict[str, Any], cameras: dict[str, str], keys: list[str],
    columns: list[str], frames: dict[str, np.ndarray],
) -> Take:  # fmt: skip
    name = f"episode {row['episode_index']}"
    missing = [c for c in columns if c not in frames]
    if missing:
        raise UserError(f"{name}: the tables have no numbers for {', '.join(missing)}")
    lengths = {"the episode": row["length"], **{c: len(frames[c]) for c in columns}}
    T = same_length(lengths, name) - 1
    values = {c: vectors(x, f"{name}, '{c}'") for c, x in frames.items() if c in columns}
    shapes = {c: library.info["features"][key]["shape"] for c, key in cameras.items()}
    sizes = {c: (shape[1:] if shape[0] == 3 else shape[:2]) for c, shape in shapes.items()}
    reward = values.get("next.reward", np.zeros((T + 1, 1), np.float32))[:T, 0]
    success = values["next.success"][:T, 0] > 0.5 if "next.success" in values else None
    parts = [np.zeros((T + 1, 0), np.float32), *(values[k] for k in keys)]
    return Take(
        name, T, {c: (int(h), int(w)) for c, (h, w) in sizes.items()},
        partial(_show, library, row, cameras), np.concatenate(parts, axis=1),
        values["action"][:T] if "action" in values and row.get("actions_known", True) else None,
        reward, success, task="; ".join(row.get("tasks") or []),
    )  # fmt: skip


def _show(library: Library, row: dict[str, Any], cameras: dict[str, str], camera: str):
    return pictures(library, row, cameras[camera])
