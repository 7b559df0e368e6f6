"""One HTML file that says what a run did: nothing is fetched, everything is inside."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path

import numpy as np

from worldmodel.chart import Line, histogram, line_chart
from worldmodel.files import write_text

#: what pages share: colours in light and dark, tables that sort, charts that tell their values
STYLE = resources.files("worldmodel").joinpath("report.css").read_text("utf-8")
SCRIPT = resources.files("worldmodel").joinpath("report.js").read_text("utf-8")


class Report:
    """Collects parts and writes them as one page.

    Report("Evaluation").figures({"success": "0.96"}).video(path, "episode 3").write(out)
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self.title = title
        self._parts = [f"<h1>{escape(title)}</h1>"]
        if lead:
            self._parts.append(f'<p class="lead">{escape(lead)}</p>')
        self._clips: list[str] = []

    def heading(self, text: str) -> Report:
        """Start a section."""
        return self._add(f"<h2>{escape(text)}</h2>")

    def text(self, text: str) -> Report:
        """A paragraph."""
        return self._add(f"<p>{escape(text)}</p>")

    def figures(self, values: Mapping[str, object]) -> Report:
        """Key figures, large: name -> value."""
        cards = "".join(
            f"<div><b>{escape(str(value))}</b><span>{escape(name)}</span></div>"
            for name, value in values.items()
        )
        return self._add(f'<div class="figures">{cards}</div>')

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Report:
        """A table."""
        head = "".join(f"<th>{escape(h)}</th>" for h in header)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>"
            for row in rows
        )
        return self._add(
            f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )

    def chart(
        self,
        lines: Mapping[str, Line],
        *,
        x_label: str = "",
        y_label: str = "",
        log_y: bool = False,
        caption: str = "",
    ) -> Report:
        """A line chart: name -> (x values, y values)."""
        svg = line_chart(lines, x_label=x_label, y_label=y_label, log_y=log_y)
        return self._add(f"<figure>{svg}{_caption(caption)}</figure>")

    def histogram(
        self, values: Sequence[float], *, x_label: str = "", y_label: str = "", caption: str = ""
    ) -> Report:
        """How many of ``values`` there are of each size."""
        svg = histogram(values, x_label=x_label, y_label=y_label)
        return self._add(f"<figure>{svg}{_caption(caption)}</figure>")

    def video(self, path: Path, caption: str = "") -> Report:
        """An mp4, embedded; neighbouring videos and images stand side by side."""
        data = base64.b64encode(path.read_bytes()).decode()
        return self._clip(
            '<video controls loop muted autoplay playsinline src="data:video/mp4;base64,'
            f'{data}"></video>',
            caption,
        )

    def image(self, pixels: np.ndarray, caption: str = "") -> Report:
        """An image uint8 (h, w, 3), embedded as PNG."""
        data = base64.b64encode(png(pixels)).decode()
        return self._clip(
            f'<img alt="{escape(caption)}" src="data:image/png;base64,{data}">', caption
        )

    def details(self, summary: str, text: str) -> Report:
        """Preformatted text behind a click."""
        return self._add(
            f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"
        )

    def html(self) -> str:
        """The page."""
        self._close_clips()
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>{STYLE}</style></head>\n<body>\n"
            + "\n".join(self._parts)
            + f"\n<script>\n{SCRIPT}</script>\n</body></html>\n"
        )

    def write(self, path: Path) -> None:
        """Write the page to ``path``, atomically."""
        write_text(path, self.html())

    def _add(self, part: str) -> Report:
        self._close_clips()
        self._parts.append(part)
        return self

    def _clip(self, element: str, caption: str) -> Report:
        self._clips.append(f"<figure>{element}{_caption(caption)}</figure>")
        return self

    def _close_clips(self) -> None:
        if self._clips:
            self._parts.append(f'<div class="clips">{"".join(self._clips)}</div>')
            self._clips = []


def _caption(text: str) -> str:
    return f"<figcaption>{escape(text)}</figcaption>" if text else ""


def png(pixels: np.ndarray) -> bytes:
    """An image uint8 (h, w, 3) as PNG."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"expected uint8 (h, w, 3), got {pixels.dtype} {pixels.shape}")
    h, w, _ = pixels.shape
    rows = np.concatenate([np.zeros((h, 1), np.uint8), pixels.reshape(h, w * 3)], axis=1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0))  # 8 bits, RGB
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 6))
        + chunk(b"IEND", b"")
    )
