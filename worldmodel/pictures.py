"""Pictures from elsewhere: decoded, turned, brought to one size. Always uint8 (h, w, 3), RGB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.errors import UserError

#: how a file of each kind begins -> what decodes it
KINDS = {b"\xff\xd8\xff": "mjpeg", b"\x89PNG": "png", b"BM": "bmp"}
#: libswscale's BILINEAR, FULL_CHR_H_INT and ACCURATE_RND
SMOOTH = 0x2 | 0x2000 | 0x40000
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


def is_encoded(data: bytes) -> bool:
    """Whether these bytes begin like a JPEG, PNG or BMP file."""
    return any(data.startswith(start) for start in KINDS)


def decode(data: bytes, what: str) -> np.ndarray:
    """The picture in the bytes of a JPEG, PNG or BMP file; zeros behind its end do no harm.

    Raises UserError, which calls it ``what``, when it is something else or broken.
    """
    import av

    kind = next((name for start, name in KINDS.items() if data.startswith(start)), None)
    if kind is None:
        raise UserError(f"{what}: got bytes {data[:4]!r} …, expected a JPEG, PNG or BMP picture")
    try:
        codec = av.CodecContext.create(kind, "r")
        assert isinstance(codec, av.VideoCodecContext)
        codec.thread_count = 1
        frames = [*codec.decode(av.Packet(data)), *codec.decode(None)]
    except (av.FFmpegError, ValueError) as error:
        raise UserError(f"{what} is truncated or corrupt ({error}); copy it again") from error
    if not frames:
        raise UserError(f"{what} is truncated or corrupt; copy it again")
    return to_rgb(frames[0])


def to_rgb(frame: Any) -> np.ndarray:
    """A decoded frame of PyAV as uint8 (h, w, 3).

    Without these flags FFmpeg repeats colours that are stored at half resolution: a red object's
    edge is off by a quarter of the range (measured against Pillow; with them by 3 of 255).
    """
    return frame.reformat(format="rgb24", interpolation=SMOOTH, threads=1).to_ndarray()


def read_film(file: Path) -> Iterator[np.ndarray]:
    """The pictures of a film, one after another; UserError when it is truncated or corrupt."""
    import av

    try:
        with av.open(str(file)) as container:
            yield from map(to_rgb, container.decode(video=0))
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise UserError(f"{file} is truncated or corrupt ({error}); copy it again") from error


def read_picture(file: Path) -> np.ndarray:
    """The picture in a file."""
    return decode(file.read_bytes(), str(file))


def resize(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture (h, w, 3) in ``size`` (h', w'): each new pixel is the mean of what it covers.

    The whole picture is kept; where h'/w' is not h/w it is squeezed in one direction.
    """
    h, w = picture.shape[:2]
    if (h, w) == tuple(size):
        return picture
    rows, columns = _cover(h, size[0]), _cover(w, size[1])
    down = (rows @ picture.reshape(h, w * 3).astype(np.float32)).reshape(size[0], w, 3)
    across = down.transpose(0, 2, 1).reshape(size[0] * 3, w) @ columns.T  # one large product
    pixels = across.reshape(size[0], 3, size[1]).transpose(0, 2, 1)
    return np.ascontiguousarray((pixels + 0.5).clip(0, 255).astype(np.uint8))


def _cover(old: int, new: int) -> np.ndarray:
    """(new, old) shares of the old pixels in each new one, along one side."""
    edges = np.arange(new + 1) * (old / new)
    place = np.arange(old)
    overlap = np.minimum(edges[1:, None], place + 1) - np.maximum(edges[:-1, None], place)
    overlap = overlap.clip(min=0)
    return (overlap / overlap.sum(1, keepdims=True)).astype(np.float32)
