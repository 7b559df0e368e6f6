"""Frames to mp4 files that every browser plays."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

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
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        if codec == "libx264":
            stream.options = {"crf": "20", "preset": "veryfast"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


class VideoStream:
    """An mp4 that grows frame by frame, in bounded memory, and plays at any moment.

    It is written in fragments of ``fps`` frames straight to ``path``: when a run is killed, what
    stands there is a film of what was done.
    """

    def __init__(self, path: Path, fps: int) -> None:
        import av

        path.parent.mkdir(parents=True, exist_ok=True)
        self._av, self._fps = av, fps
        flags = {"movflags": "+frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
        self._container = av.open(str(path), "w", format="mp4", options=flags)
        self._stream: Any = None

    def add(self, frame: np.ndarray) -> None:
        """One frame uint8 (h, w, 3), all of one even size."""
        if self._stream is None:
            codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
            self._stream = self._container.add_stream(codec, rate=self._fps)
            self._stream.height, self._stream.width = frame.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.gop_size = self._fps
            if codec == "libx264":
                self._stream.options = {"crf": "23", "preset": "veryfast", "tune": "zerolatency"}
        picture = self._av.VideoFrame.from_ndarray(frame, format="rgb24")
        self._container.mux(self._stream.encode(picture))

    def __enter__(self) -> VideoStream:
        return self

    def __exit__(self, *error: object) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()
