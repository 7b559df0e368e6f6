"""Frames to mp4 files that every browser plays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from worldmodel.errors import UserError
from worldmodel.files import atomic


def upscale(frames: np.ndarray, factor: int) -> np.ndarray:
    """Every pixel of (…, h, w, 3) as a square of ``factor`` pixels: nothing is smoothed away."""
    return frames.repeat(factor, axis=-3).repeat(factor, axis=-2)


def side_by_side(parts: Sequence[np.ndarray], height: int = 256, gap: int = 4) -> np.ndarray:
    """Clips (n, h, w, 3) next to one another, each enlarged by a whole factor to about ``height``.

    A shorter clip holds its last frame.
    """
    length = max(len(part) for part in parts)
    columns: list[np.ndarray] = []
    tallest = max(part.shape[1] for part in parts)
    for part in parts:
        part = upscale(part, max(1, round(max(height, tallest) / part.shape[1])))
        columns.append(part[np.minimum(np.arange(length), len(part) - 1)])
    tall = max(column.shape[1] for column in columns)
    padded = []
    for i, column in enumerate(columns):
        below, right = tall - column.shape[1], gap if i < len(columns) - 1 else 0
        padded.append(np.pad(column, ((0, 0), (0, below), (0, right), (0, 0)), constant_values=255))
    return np.concatenate(padded, axis=2)


def write_mp4(path: Path, frames: np.ndarray, fps: float) -> None:
    """Write ``frames`` uint8 (n, h, w, 3) as H.264 at ``fps``, atomically.

    Raises UserError when the frames are not of that form.
    """
    import av

    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not len(frames):
        raise UserError(
            f"a video needs uint8 frames (n, h, w, 3), got {frames.dtype} {frames.shape}"
        )
    frames = np.pad(  # yuv420p wants even sides
        frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge"
    )
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    start_first = {"movflags": "+faststart"}  # a browser plays it while it loads
    with (
        atomic(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options=start_first) as container,
    ):
        stream = container.add_stream(codec, rate=round(fps))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        if codec == "libx264":
            stream.options = {"crf": "20", "preset": "veryfast"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
