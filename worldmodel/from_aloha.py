"""ALOHA's HDF5, a file per episode.

    observations/images/<camera>   (N, h, w, 3) uint8, or JPEGs: (N, longest) padded with zeros
    observations/qpos              (N, 14)       joint positions; qvel and effort may be there
    action                         (N, 14)       wanted joint positions, taken at o_n

Nothing was seen after the last action: it is left out. A JPEG that OpenCV wrote from an RGB picture
has red and blue interchanged for every other reader; whether a file has, only a look tells.
[tonyzhaozh/aloha; github.com/Physical-Intelligence/openpi issue 293]
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.errors import UserError
from worldmodel.hdf5 import holds_pictures, numbers, opened, picture_size, pictures_of
from worldmodel.takes import Source, Take, Wanted, choose, same_length


def is_aloha(file: Any) -> bool:
    return "observations" in file and "images" in file["observations"]


def read_aloha(files: list[Path], wanted: Wanted) -> Source:
    """Every file, an episode each. Without an ``action`` it is a video without actions."""
    takes, names, actions, encoded = [], (), (), False
    for path in files:
        with opened(path) as file:
            if not is_aloha(file):
                raise UserError(
                    f"{path}: expected observations/images and action, got {', '.join(file)}"
                )
            images = file["observations/images"]
            there = [k for k in images if holds_pictures(images[k])]
            cameras = choose("cameras", wanted.cameras, there, f"{path.name}/observations/images")
            if not cameras:
                raise UserError(f"{path}: no pictures in observations/images, only {list(images)}")
            others = [k for k in file["observations"] if k != "images"]
            default = [k for k in ("qpos",) if k in others]
            where = f"{path.name}/observations"
            keys = choose("proprio", wanted.proprio or default, others, where)
            takes.append(_take(path, file, cameras, keys))
            encoded |= any(images[c].ndim < 4 for c in cameras)
            if not names:
                widths = {k: file["observations"][k].shape[1] for k in keys}
                names = tuple(f"{k} {i}" for k, n in widths.items() for i in range(n))
            if not actions and "action" in file:
                actions = tuple(f"action {i} [1]" for i in range(file["action"].shape[1]))
    notes = []
    if encoded:
        notes.append("the pictures are JPEGs: where red and blue are interchanged in the report, "
                     "convert again with swap_colours=true")  # fmt: skip
    return Source("aloha", takes, names, actions, files, notes=notes)


def _take(path: Path, file: Any, cameras: list[str], keys: list[str]) -> Take:
    images, name = file["observations/images"], path.name
    lengths = {c: len(images[c]) for c in cameras}
    lengths |= {k: len(file["observations"][k]) for k in keys}
    lengths |= {"action": len(file["action"])} if "action" in file else {}
    count = same_length(lengths, name)
    parts = [numbers(file["observations"], k, name) for k in keys]
    action = numbers(file, "action", name)[:-1] if "action" in file else None

    def pictures(camera: str) -> Iterator[np.ndarray]:
        with opened(path) as again:
            yield from pictures_of(
                again["observations/images"][camera], count, f"{name}, camera {camera}"
            )

    return Take(
        name, count - 1, {c: picture_size(images[c], f"{name}, camera {c}") for c in cameras},
        pictures, np.concatenate([np.zeros((count, 0), np.float32), *parts], axis=1), action,
        np.zeros(count - 1, np.float32), None,
    )  # fmt: skip
