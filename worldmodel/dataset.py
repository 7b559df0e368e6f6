"""A dataset folder, decoded once into memory-mapped arrays.

All frames lie one after another; :mod:`worldmodel.windows` draws windows of them. Memory does not
grow with the dataset: pages of the arrays come and go with the operating system's cache.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from worldmodel import lerobot
from worldmodel.errors import RunError, UserError
from worldmodel.files import write_json
from worldmodel.spec import DataSpec
from worldmodel.windows import EpisodeInfo, Windows

CACHE, FINGERPRINT = "cache", "fingerprint.json"
DISCOUNT = 0.98  # of the value that the outcome leaf learns
#: arrays of the cache, an entry per frame
STREAMS = ("images", "proprio", "action", "label", "outcome")


class Dataset:
    """A finished dataset folder, as `worldmodel collect` writes it."""

    def __init__(
        self, path: str | Path, on_progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Open ``path``; the first time its videos are decoded, with ``on_progress(done, total)``.

        Raises UserError when files are missing, truncated, corrupt or don't fit each other.
        """
        self.path = Path(path)
        if not self.path.is_dir():
            raise UserError(
                f"there is no dataset folder '{path}'; make one with `worldmodel collect`"
            )
        begun = lerobot.begun_by(self.path)
        if begun:
            raise UserError(
                f"{path} is not finished: run the same `worldmodel {begun}` command again"
            )
        self.info = lerobot.read_json(self.path / lerobot.INFO)
        if self.info.get("codebase_version") != lerobot.VERSION:
            raise UserError(
                f"{path} is a LeRobotDataset {self.info.get('codebase_version')}, expected "
                f"{lerobot.VERSION}; convert it with lerobot's own converter"
            )
        about = lerobot.read_json(self.path / lerobot.SPEC)
        if "spec" not in about:
            raise UserError(f"{self.path / lerobot.SPEC} has no 'spec': the file was edited")
        self.spec = DataSpec.from_json(about["spec"])
        self.episodes = _episodes(self.path)
        self._arrays = self._open_cache(on_progress)

    def __len__(self) -> int:
        return len(self.episodes)

    def split(self, holdout: int) -> tuple[list[int], list[int]]:
        """Indices of training and of held-out episodes: the last ``holdout`` are held out."""
        n = len(self.episodes)
        if not 0 < holdout < n:
            raise UserError(
                f"holdout: got {holdout} of {n} episodes, expected at least 1 and fewer than all"
            )
        return list(range(n - holdout)), list(range(n - holdout, n))

    def windows(self, length: int, chunk: int, episodes: Sequence[int]) -> Windows:
        """All windows of ``length`` steps with plans of ``chunk`` actions in these episodes."""
        return Windows(self._arrays, [self.episodes[i] for i in episodes], length, chunk)

    def stream(self, name: str) -> np.ndarray:
        """One of STREAMS, memory-mapped, an entry per frame."""
        return self._arrays[name]

    # -- cache --------------------------------------------------------------------------------

    def _open_cache(self, on_progress: Callable[[int, int], None] | None) -> dict[str, np.ndarray]:
        cache, mark = self.path / CACHE, _fingerprint(self.path)
        file = cache / FINGERPRINT
        if not file.exists() or lerobot.read_json(file) != mark:
            self._build_cache(mark, on_progress)
        try:
            return {name: np.load(cache / f"{name}.npy", mmap_mode="r") for name in STREAMS}
        except (OSError, ValueError) as error:
            raise UserError(
                f"{cache} is damaged ({error}); delete that folder, it is made anew"
            ) from error

    def _build_cache(self, mark: dict, on_progress: Callable[[int, int], None] | None) -> None:
        """Decode into a folder of its own, then rename it into place."""
        temporary = self.path / f".{CACHE}-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            table = _frames(self.path, self.info)
            total = sum(e.length + 1 for e in self.episodes)
            if len(table) != total:
                raise UserError(
                    f"{self.path}: the data have {len(table)} frames, the episodes {total}; "
                    "files of two datasets are mixed"
                )
            for name, values in _tables(table, self.episodes, self.spec).items():
                np.save(temporary / f"{name}.npy", values)
            shape = (total, len(self.spec.cameras), *self.spec.image_size, 3)
            images = np.lib.format.open_memmap(
                temporary / "images.npy", mode="w+", dtype=np.uint8, shape=shape
            )
            self._decode(images, on_progress)
            images.flush()
            write_json(temporary / FINGERPRINT, mark)
            shutil.rmtree(self.path / CACHE, ignore_errors=True)
            temporary.rename(self.path / CACHE)
        except OSError as error:
            raise RunError(
                f"could not write the cache {self.path / CACHE}: {error}; free some space"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _decode(self, images: np.ndarray, on_progress: Callable[[int, int], None] | None) -> None:
        rows = lerobot.read_table(self.path / lerobot.EPISODES).to_pylist()
        fps, done, total = self.info["fps"], 0, images.shape[0] * images.shape[1]
        for c, camera in enumerate(self.spec.cameras):
            key = lerobot.video_key(camera)
            files: dict[str, list[tuple[EpisodeInfo, int]]] = {}
            for episode, row in zip(self.episodes, rows, strict=True):
                name = self.info["video_path"].format(
                    video_key=key, chunk_index=row[f"videos/{key}/chunk_index"],
                    file_index=row[f"videos/{key}/file_index"],
                )  # fmt: skip
                first = round(row[f"videos/{key}/from_timestamp"] * fps)
                files.setdefault(name, []).append((episode, first))
            for name, parts in files.items():
                place = {  # frame of the video -> frame of the dataset
                    first + i: e.start + i for e, first in parts for i in range(e.length + 1)
                }
                found = 0
                for i, frame in enumerate(lerobot.read_video(self.path / name)):
                    if i in place:
                        if frame.shape != images.shape[2:]:
                            raise UserError(
                                f"{self.path / name}: frames are {frame.shape}, the spec says "
                                f"{images.shape[2:]}; collect the dataset again"
                            )
                        images[place[i], c] = frame
                        found += 1
                if found != len(place):
                    raise UserError(
                        f"{self.path / name} has {found} of the {len(place)} frames that its "
                        "episodes need: it is truncated; collect or copy it again"
                    )
                done += found
                if on_progress:
                    on_progress(done, total)


# -- reading --------------------------------------------------------------------------------------


def _fingerprint(path: Path) -> dict:
    """Names, sizes and times of the files that the cache is made from."""
    files = sorted(p for part in ("data", "videos", "meta") for p in (path / part).rglob("*.*"))
    stats = {str(p.relative_to(path)): [p.stat().st_size, p.stat().st_mtime_ns] for p in files}
    return {"files": stats, "streams": list(STREAMS), "discount": DISCOUNT}


def _episodes(path: Path) -> list[EpisodeInfo]:
    table = lerobot.read_table(path / lerobot.EPISODES)
    needed = (
        "episode_index", "length", "dataset_from_index", "success", "seed", "outcome",
        "demonstration",
    )  # fmt: skip
    missing = [name for name in needed if name not in table.column_names]
    if missing:
        raise UserError(
            f"{path / lerobot.EPISODES} has no columns {missing}: it was not written by "
            "`worldmodel collect`"
        )
    optional = [name for name in ("actions_known",) if name in table.column_names]
    rows = table.select([*needed, *optional]).to_pylist()
    return [
        EpisodeInfo(r["episode_index"], r["length"] - 1, r["dataset_from_index"], r["success"],
                    r["seed"], r["outcome"], r["demonstration"], r.get("actions_known", True))
        for r in rows
    ]  # fmt: skip


def _frames(path: Path, info: dict) -> pa.Table:
    files = sorted((path / "data").rglob("*.parquet"))
    if not files:
        raise UserError(f"{path / 'data'} has no parquet file; copy the dataset again")
    return pa.concat_tables([lerobot.read_table(f) for f in files])


def outcomes(success: np.ndarray, reward: np.ndarray, terminated: np.ndarray) -> np.ndarray:
    """(T + 1, 4) leaves.OUTCOMES of each observation, from what each step (T,) brought."""
    found = np.zeros((len(reward) + 1, 4), np.float32)
    for k, row in enumerate((success, reward, terminated)):
        found[1:, k] = row
    value = 0.0
    for n in range(len(reward) - 1, -1, -1):
        value = reward[n] + DISCOUNT * value
        found[n, 3] = value
    return found


def _tables(table: pa.Table, episodes: list[EpisodeInfo], spec: DataSpec) -> dict[str, np.ndarray]:
    """The streams of numbers per frame; UserError where columns are missing or too narrow."""
    widths = {"observation.state": spec.P, "action": spec.A, "action.executed": spec.A}
    flags = ("next.reward", "next.terminated", "next.success")
    missing = [name for name in (*widths, *flags) if name not in table.column_names]
    if missing:
        raise UserError(
            f"the data have no columns {missing}; expected those of `worldmodel collect`"
        )
    columns = {}
    for name, width in widths.items():
        flat = table[name].combine_chunks().flatten().to_numpy()
        if len(flat) != len(table) * width:
            raise UserError(
                f"column '{name}' has {len(flat) / len(table):g} numbers a row, the spec {width}"
            )
        columns[name] = flat.reshape(-1, width).astype(np.float32)
        if not np.isfinite(columns[name]).all():
            row = int(np.flatnonzero(~np.isfinite(columns[name]).all(axis=1))[0])
            raise UserError(
                f"column '{name}' is not finite in row {row}; see `worldmodel data check`"
            )
    reward, terminated, success = (table[n].to_numpy().astype(np.float32) for n in flags)
    outcome = np.zeros((len(table), 4), np.float32)
    for e in episodes:
        steps = slice(e.start, e.start + e.length)
        outcome[e.start : e.start + e.length + 1] = outcomes(
            success[steps], reward[steps], terminated[steps]
        )
    return {
        "proprio": columns["observation.state"], "action": columns["action.executed"],
        "label": columns["action"], "outcome": outcome,
    }  # fmt: skip
