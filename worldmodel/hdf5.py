"""HDF5 files: opened with errors in plain words, and the pictures in them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.errors import UserError
from worldmodel.pictures import decode, is_encoded
from worldmodel.takes import vectors

SUFFIXES = (".hdf5", ".h5")
BLOCK = 32  # frames read at a time


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file, open for reading; UserError when h5py is missing or the file is broken."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise UserError(
            "reading HDF5 needs h5py: pip install 'worldmodel[data]'"
        ) from error  # fmt: skip
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path} is no HDF5 file, or truncated ({error}); copy it again") from error
    with file:
        try:
            yield file
        except (OSError, RuntimeError, KeyError, ValueError) as error:  # damage
            raise UserError(f"{path} is corrupt ({error}); copy it again") from error


def files_in(path: Path) -> list[Path]:
    """``path`` itself, or the HDF5 files in that folder, episode_2 before episode_10."""
    if path.is_file():
        return [path]
    return sorted(
        (f for f in path.iterdir() if f.suffix in SUFFIXES), key=lambda f: natural(f.stem)
    )


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts demo_2 before demo_10."""
    parts, word = [], ""
    for letter in name + " ":
        if word and letter.isdigit() != word[-1].isdigit():
            parts.append((0, int(word), "") if word[0].isdigit() else (1, 0, word))
            word = ""
        word += letter
    return parts


def holds_pictures(dataset: Any) -> bool:
    """Whether it has a picture per step: uint8 (n, h, w, 3), or JPEGs as bytes or padded rows."""
    if not hasattr(dataset, "shape") or len(dataset) == 0:
        return False
    if dataset.dtype == np.uint8 and dataset.ndim == 4:
        return dataset.shape[-1] == 3
    if dataset.ndim == 1 or (dataset.dtype == np.uint8 and dataset.ndim == 2):
        return dataset.dtype.kind in "OSVu" and is_encoded(_bytes(dataset[0]))
    return False


def picture_size(dataset: Any, what: str) -> tuple[int, int]:
    """(h, w) of its pictures."""
    if dataset.ndim == 4:
        return dataset.shape[1], dataset.shape[2]
    picture = decode(_bytes(dataset[0]), f"{what}, frame 0")
    return picture.shape[0], picture.shape[1]


def pictures_of(dataset: Any, count: int, what: str) -> Iterator[np.ndarray]:
    """The first ``count`` pictures, uint8 (h, w, 3)."""
    for start in range(0, count, BLOCK):
        block = dataset[start : min(start + BLOCK, count)]
        for i, row in enumerate(block, start=start):
            yield row if dataset.ndim == 4 else decode(_bytes(row), f"{what}, frame {i}")


def numbers(group: Any, key: str, what: str) -> np.ndarray:
    """The vectors (n, d) under ``key``; UserError when they are missing or not finite."""
    if key not in group:
        raise UserError(f"{what}: there is no '{key}'; it has {', '.join(group) or 'nothing'}")
    return vectors(group[key][:], f"{what}, '{key}'")


def _bytes(row: Any) -> bytes:
    return row.tobytes() if isinstance(row, np.ndarray) else bytes(row)
