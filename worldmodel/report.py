"""One HTML file that says what a run did: nothing is fetched, everything is inside."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from worldmodel.chart import Line, line_chart
from worldmodel.files import write_text

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5c6675; --line: #dfe3e9; --page: #fff;
  --card: #f6f7f9; --c0: #2f6fdb; --c1: #d9662b; --c2: #2e9461; --c3: #a145b5; --c4: #b58a00;
  --c5: #c23a4b; --c6: #3d8fa8; --c7: #6b6f7a }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --soft: #9aa5b4; --line: #313a47;
  --page: #12161c; --card: #1b212a; --c0: #6ea0f5; --c1: #ef9160; --c2: #63c395; --c3: #cf8bdf;
  --c4: #dcb54a; --c5: #ef7b89; --c6: #74c0d6; --c7: #a6abb6 } }
* { box-sizing: border-box }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 66rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .7rem }
p { max-width: 46rem } p.lead { color: var(--soft); margin: 0 0 1.6rem }
.figures { display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)) }
.figures div { background: var(--card); border-radius: .6rem; padding: .8rem 1rem }
.figures b { display: block; font-size: 1.35rem; font-weight: 600; line-height: 1.25 }
.figures span { color: var(--soft); font-size: .85rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem }
th, td { text-align: left; padding: .34rem 1.4rem .34rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere }
th { color: var(--soft); font-weight: 500; white-space: nowrap }
.clips { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem }
figure { margin: 0 } figcaption { color: var(--soft); font-size: .87rem; margin-top: .3rem }
video, figure img { width: 100%; border-radius: .5rem; background: var(--card);
  image-rendering: pixelated; display: block }
svg { width: 100%; max-width: 46rem; height: auto; display: block }
svg text { font: 12px system-ui, sans-serif; fill: var(--soft) }
details { margin-top: 2.4rem } summary { cursor: pointer; color: var(--soft) }
pre { background: var(--card); border-radius: .6rem; padding: 1rem; overflow-x: auto;
  font-size: .85rem }
"""


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
            + "\n</body></html>\n"
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
