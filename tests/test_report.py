"""Reports and videos: self-contained, well formed, readable by others' decoders."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest

from worldmodel.chart import line_chart
from worldmodel.errors import UserError
from worldmodel.lerobot import read_video
from worldmodel.report import Report, png
from worldmodel.video import side_by_side, upscale, write_mp4


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_a_chart_is_well_formed_and_within_its_frame():
    svg = line_chart(
        {"train <1>": ([0, 1e6], [1.0, 0.1]), "val": (range(5000), np.linspace(1, 0, 5000))},
        x_label="update", y_label="loss & more",
    )  # fmt: skip
    root = ElementTree.fromstring(svg)
    lines = [e.get("points", "") for e in root.iter("polyline")]
    assert len(lines) == 2
    assert len(lines[1].split()) <= 600
    for pair in " ".join(lines).split():
        x, y = map(float, pair.split(","))
        assert 60 <= x <= 720
        assert 0 <= y <= 300
    assert next(e.text for e in root.iter("title")) == "train <1>: 0.1 at 1M"


@pytest.mark.parametrize(("length", "columns"), [(3, 4), (30, 2), (60, 1)])
def test_names_in_a_legend_have_room(length: int, columns: int) -> None:
    names = [f"{i}".rjust(length, "p") for i in range(5)]
    svg = line_chart({name: ([0, 1], [0, 1]) for name in names})
    texts = [e for e in ElementTree.fromstring(svg).iter("text") if e.text in names]
    places = sorted({float(e.get("x", "")) for e in texts})
    assert len(places) == columns
    assert min(np.diff([*places, 720])) > 6 * length


@pytest.mark.parametrize("lines", [8, 9])
def test_lines_beyond_the_colours_are_numbered(lines: int) -> None:
    svg = line_chart({f"line {i}": ([0, 0.5], [0, 0.5]) for i in range(lines)})
    texts = [e.text for e in ElementTree.fromstring(svg).iter("text")]
    assert ("8 line 8" in texts) == (lines == 9)
    assert all((f"{i}" in texts) == (lines == 9) for i in range(2, lines))


def test_points_that_are_not_finite_or_not_positive_on_a_log_axis_are_left_out():
    svg = line_chart({"a": ([0, 1, 2, 3], [1.0, float("nan"), 0.0, 10.0])}, log_y=True)
    assert len(ElementTree.fromstring(svg).find(".//polyline").get("points").split()) == 2
    assert "No points" in line_chart({"a": ([0], [float("inf")])})
    ElementTree.fromstring(line_chart({"a": ([3], [2.0])}))  # a single point has a range too


@pytest.mark.parametrize(("low", "high"), [(-117.0, 124.0), (0.0, 1.0), (-0.6, 0.3), (3.0, 3.1)])
def test_the_top_and_the_bottom_of_a_chart_carry_their_numbers(low: float, high: float) -> None:
    svg = line_chart({"a": ([0, 1], [low, high])})
    texts = re.findall(r'text-anchor="end">([^<]*)</text>', svg)
    marks = [float(text) for text in texts]
    assert 3 <= len(marks) <= 8
    assert marks[0] <= low
    assert marks[-1] >= high


def test_png_is_lossless():
    image = noise(5, 7, 3)
    with av.open(io.BytesIO(png(image)), format="png_pipe") as container:
        decoded = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert (decoded == image).all()


def test_mp4_keeps_length_rate_and_picture(tmp_path: Path):
    grey = np.arange(0, 210, 30, dtype=np.uint8)  # seven frames, each lighter
    frames = upscale(np.broadcast_to(grey[:, None, None, None], (7, 5, 9, 3)), 9)
    path = tmp_path / "videos" / "clip.mp4"
    write_mp4(path, frames, fps=10)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 10
        decoded = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(decoded) == 7
    assert decoded[0].shape == (46, 82, 3)  # 45 x 81 made even
    error = np.abs(decoded[3][:45, :81].astype(int) - frames[3])
    assert error.mean() < 4
    assert [f.name for f in path.parent.iterdir()] == ["clip.mp4"]


def test_mp4_refuses_floats_and_nothing(tmp_path: Path):
    with pytest.raises(UserError, match="uint8"):
        write_mp4(tmp_path / "x.mp4", np.zeros((2, 8, 8, 3)), 10)
    with pytest.raises(UserError, match="frames"):
        write_mp4(tmp_path / "x.mp4", np.zeros((0, 8, 8, 3), np.uint8), 10)


def test_a_film_whose_maker_is_killed_plays_up_to_there(tmp_path: Path):
    code = (
        "import os, sys; import numpy as np; from pathlib import Path\n"
        "from worldmodel.video import VideoStream\n"
        "film = VideoStream(Path(sys.argv[1]), 10)\n"
        "for i in range(45): film.add(np.full((32, 64, 3), 5 * i, np.uint8))\n"
        "os._exit(9)\n"
    )
    path = tmp_path / "videos" / "long.mp4"
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    frames = list(read_video(path))
    assert 30 <= len(frames) <= 45
    assert all(abs(int(frame.mean()) - 5 * i) < 8 for i, frame in enumerate(frames))


def test_side_by_side_enlarges_and_holds_the_last_frame():
    long, short = noise(4, 64, 64, 3), noise(2, 32, 48, 3)
    film = side_by_side([long, short], height=128, gap=4)
    assert film.shape == (4, 128, 128 + 4 + 192, 3)
    assert (film[:, ::2, :128:2] == long).all()
    assert (film[3, ::4, 132::4] == short[1]).all()


class Balance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "rect", "line", "circle", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("rect", "line", "circle", "polyline"):
            assert self.open.pop() == tag


def test_a_page_is_balanced_escaped_and_fetches_nothing(tmp_path: Path):
    write_mp4(tmp_path / "a.mp4", noise(3, 16, 16, 3), 10)
    report = (
        Report("A <title>", "lead & more")
        .figures({"success": "96 %"})
        .heading("Table")
        .table(["a", "b"], [[1, "<script>"], [2, "x"]])
        .chart({"loss": ([0, 1], [1, 2])}, x_label="step", caption="falls")
        .video(tmp_path / "a.mp4", "clip")
        .image(noise(4, 4, 3), "picture")
        .text("end")
        .details("config", "a: <b>")
    )
    report.write(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    assert page.count("<script") == 1  # ours
    assert "<td>&lt;script&gt;</td>" in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert page.count('<div class="clips">') == 1
    data = re.search(r"data:video/mp4;base64,([^\"]+)", page).group(1)
    assert base64.b64decode(data) == (tmp_path / "a.mp4").read_bytes()
    assert "prefers-color-scheme: dark" in page
