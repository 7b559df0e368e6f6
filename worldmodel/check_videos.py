"""What is wrong with the pictures of a dataset: missing, black, of one colour, standing still."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from worldmodel import lerobot
from worldmodel.check_findings import AGAIN, Parts, Problem, matrix, some

FROZEN = 8  # identical frames in a row, while proprio moves, that are worth a word
BLACK, FLAT = 2.0, 1.0  # mean and standard deviation of a picture, of 255


def video_files(data: Parts) -> list[str]:
    """The video files that episodes lie in; all that are there if that is not known."""
    if data.rows is None or data.spec is None or data.info is None:
        found = (data.root / "videos").rglob("*.mp4")
        return sorted(str(f.relative_to(data.root)) for f in found if f.name[0] != ".")
    return sorted({_video_file(data, r, c) for r in data.rows for c in data.spec.cameras})


def _video_file(data: Parts, row: dict[str, Any], camera: str) -> str:
    key = lerobot.video_key(camera)
    place = {k: row[f"videos/{key}/{k}"] for k in ("chunk_index", "file_index")}
    return (data.info or {})["video_path"].format(video_key=key, **place)


def video(data: Parts, name: str) -> Iterator[Problem]:
    """One file: does it decode, is every frame there, does it show anything, does it move?"""
    if data.rows is None or data.spec is None or data.info is None:
        for _ in lerobot.read_video(data.root / name):
            pass
        return
    parts = []  # first frame in the video, row of the episode
    for camera in data.spec.cameras:
        first = f"videos/{lerobot.video_key(camera)}/from_timestamp"
        parts += [(round(row[first] * data.info["fps"]), row)
                  for row in data.rows if _video_file(data, row, camera) == name]  # fmt: skip
    shape, count, before = (*data.spec.image_size, 3), 0, None
    dark, flat, still = [], [], []
    for frame in lerobot.read_video(data.root / name):
        if frame.shape != shape:
            yield Problem(name, f"frame {count} is {frame.shape}, expected {shape}", AGAIN)
            return
        dark.append(frame.mean() < BLACK)
        flat.append(frame.reshape(-1, 3).std(0).max() < FLAT)
        still.append(before is not None and np.array_equal(frame, before))
        before, count = frame, count + 1
    wanted = max(first + row["length"] for first, row in parts)
    if count != wanted:
        yield Problem(name, f"{count} frames, the episodes in it have {wanted}", AGAIN)
        return
    state = None if data.frames is None else matrix(data.frames, "observation.state")
    for label, marks in (("black", dark), ("of one colour", flat)):
        if any(marks):
            n = marks.index(True)
            what = f"{sum(marks)} of {count} frames are {label}, the first is frame {n}"
            yield Problem(name, what, "look at camera and rendering backend, collect again")
            return
    frozen = [row["episode_index"] for first, row in parts if _frozen(still, first, row, state)]
    if frozen:
        what = f"the picture stands still for {FROZEN} steps or more while proprio changes, in "
        repair = "fine if nothing of that is in view, else look at the camera"
        yield Problem(name, f"{what}episodes {some(frozen)}", repair, serious=False)


def _frozen(still: list[bool], first: int, row: dict[str, Any], state: np.ndarray | None) -> bool:
    if state is None:
        return False
    moved = np.abs(np.diff(state[row["dataset_from_index"] : row["dataset_to_index"]], axis=0))
    run = 0
    for n in range(1, row["length"]):
        run = run + 1 if still[first + n] and moved[n - 1].max() > 1e-3 else 0
        if run >= FROZEN:
            return True
    return False
