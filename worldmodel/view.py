"""A page that shows what is in a dataset."""

from __future__ import annotations

import itertools
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.browse import (
    Library,
    Range,
    dimension_names,
    frames_of,
    open_library,
    pictures,
    ranges,
)
from worldmodel.chart import COLOURS
from worldmodel.lerobot import STATS, read_json
from worldmodel.log import duration
from worldmodel.pictures import resize
from worldmodel.report import Report
from worldmodel.video import side_by_side, write_mp4

HEIGHT = 240  # pixels, of a camera on the page, at most
MOST = 24  # dimensions drawn of a stream
#: columns that count frames and mark ends: in the table of streams, not among the dimensions
BOOKS = ("timestamp", "frame_index", "episode_index", "index", "task_index", "next.exists")


@dataclass(frozen=True)
class ViewConfig:
    show: int = field(default=4, metadata={"help": "episodes shown, spread over the dataset"})
    seconds: float = field(default=30.0, metadata={"help": "of each, at most"})

    def __post_init__(self) -> None:
        if self.show < 0 or self.seconds <= 0:
            raise ValueError(f"expected show >= 0, seconds > 0; got {self.show}, {self.seconds}")


def view(
    data: Path, config: ViewConfig, out: Path,
    on_progress: Callable[[int, str], None] | None = None, notes: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Write ``out/report.html`` about the dataset in ``data``; returns its key figures.

    UserError when it is no LeRobotDataset v3, or broken.
    """
    library = open_library(data)
    found, lengths = ranges(library), [row["length"] for row in library.rows]
    figures = _figures(library, lengths)
    robot = library.info.get("robot_type")
    about = [f"LeRobotDataset {library.info['codebase_version']}", *([robot] if robot else [])]
    report = Report(data.resolve().name, ", ".join(about)).figures(figures)
    for note in notes:
        report.text(f"Note: {note}.")
    picks = np.linspace(0, len(lengths) - 1, min(config.show, len(lengths)))
    shown = [library.rows[round(i)] for i in np.unique(picks)]
    if shown:
        report.heading("Episodes")
    with tempfile.TemporaryDirectory() as folder:
        for row in shown:
            _films(report, library, row, config, Path(folder))
            if on_progress:
                on_progress(1, f"episode {row['episode_index']}")
    report.heading("Streams").table(
        ["stream", "type", "shape", "lowest", "highest", "not finite"], _streams(library, found)
    )
    report.heading("Dimensions").table(
        ["stream", "dimension", "lowest", "mean", "std", "highest"], _dimensions(library, found)
    )
    report.heading("Length of the episodes")
    seconds = [n / library.fps for n in lengths]
    report.histogram(seconds, x_label="seconds", y_label="episodes")
    report.heading("Tasks").table(["task", "episodes"], _tasks(library))
    for row in shown:
        _numbers(report, library, row, config)
    report.write(out / "report.html")
    return {
        "episodes": len(lengths), "frames": int(sum(lengths)), "fps": library.fps,
        "cameras": library.cameras, "tasks": sorted(library.tasks.values()),
        "streams": {
            name: {"dtype": r.dtype, "dimensions": len(r.mean), "min": r.low.tolist(),
                   "max": r.high.tolist(), "mean": r.mean.tolist(), "std": r.std.tolist(),
                   "not_finite": r.broken}
            for name, r in found.items() if r.count
        },
    }  # fmt: skip


def _figures(library: Library, lengths: list[int]) -> dict[str, str]:
    rows = library.rows
    figures = {
        "episodes": f"{len(lengths):,}", "frames": f"{sum(lengths):,}",
        "recorded": duration(sum(lengths) / library.fps), "frequency": f"{library.fps:g} Hz",
        "frames an episode": " to ".join(f"{n}" for n in sorted({min(lengths), max(lengths)})),
        "cameras": str(len(library.cameras)),
    }  # fmt: skip
    if all(row.get("outcome", "unknown") != "unknown" for row in rows):
        figures["success"] = f"{100 * np.mean([bool(r['success']) for r in rows]):.1f} %"
    silent = sum(not row.get("actions_known", True) for row in rows)
    if silent:
        figures["without actions"] = f"{silent:,}"
    return figures


def _films(
    report: Report, library: Library, row: dict[str, Any], config: ViewConfig, folder: Path
) -> None:
    """What the cameras saw in one episode."""
    limit = max(1, round(config.seconds * library.fps))
    outcome = row.get("outcome") or "unknown"
    for camera in library.cameras:
        frames = np.stack([*itertools.islice(pictures(library, row, camera), limit)])
        h, w = frames.shape[1:3]
        if h > HEIGHT:
            size = HEIGHT, round(w * HEIGHT / h)
            frames = np.stack([resize(frame, size) for frame in frames])
        file = folder / "clip.mp4"
        write_mp4(file, side_by_side([frames], HEIGHT), library.fps)
        n, name = row["length"], camera.removeprefix("observation.images.")
        told = [f"episode {row['episode_index']}", name, f"{h} x {w}"]
        told.append(f"{len(frames)} of {n} frames" if len(frames) < n else f"{n} frames")
        told += [outcome] if outcome != "unknown" else []
        report.video(file, ", ".join(told))


def _numbers(report: Report, library: Library, row: dict[str, Any], config: ViewConfig) -> None:
    """The actions and the proprioception of one episode."""
    limit, task = max(1, round(config.seconds * library.fps)), "; ".join(row.get("tasks") or [])
    report.heading(f"Episode {row['episode_index']}" + (f": {task}" if task else ""))
    curves = {"action": "Actions", "observation.state": "Proprioception"}
    values = frames_of(library, row, list(curves))
    for stream, title in curves.items():
        if stream == "action" and not row.get("actions_known", True):
            report.text("The actions of this episode are not known.")
        elif stream in values:
            _curves(report, library, stream, title, values[stream][:limit])


def _curves(report: Report, library: Library, stream: str, title: str, x: np.ndarray) -> None:
    """Line charts over time, a few dimensions each."""
    names, time = dimension_names(library, stream, x.shape[1]), np.arange(len(x)) / library.fps
    shown = min(x.shape[1], MOST)
    charts = -(-shown // COLOURS)
    for part in np.array_split(np.arange(shown), charts):
        lines = {names[d]: (time.tolist(), x[:, d].tolist()) for d in part}
        first, last = part[0] + 1, part[-1] + 1
        which = "" if charts == 1 else f", {first} to {last} of {x.shape[1]}"
        report.chart(lines, x_label="seconds", y_label=stream, caption=f"{title}{which}")


def _streams(library: Library, found: dict[str, Range]) -> list[list[str]]:
    stats = read_json(library.root / STATS) if (library.root / STATS).exists() else {}
    rows = []
    for name, feature in library.info["features"].items():
        shape = " x ".join(map(str, feature.get("shape", [])))
        low, high, broken = "–", "–", "0"
        if name in found and found[name].count:
            r = found[name]
            low, high, broken = f"{r.low.min():.4g}", f"{r.high.max():.4g}", str(r.broken)
        elif name in library.cameras and name in stats:
            low = f"{255 * np.min(stats[name]['min']):.0f}"
            high = f"{255 * np.max(stats[name]['max']):.0f}"
        rows.append([name, feature.get("dtype", "?"), shape, low, high, broken])
    return rows


def _dimensions(library: Library, found: dict[str, Range]) -> list[list[str]]:
    rows = []
    for name, r in found.items():
        if name in BOOKS or not r.count:
            continue
        for d, dimension in enumerate(dimension_names(library, name, len(r.mean))[:MOST]):
            values = (r.low[d], r.mean[d], r.std[d], r.high[d])
            label = "" if len(r.mean) == 1 else dimension
            rows.append([name, label, *(f"{v:.4g}" for v in values)])
        if len(r.mean) > MOST:
            rows.append([name, f"and {len(r.mean) - MOST} more", "", "", "", ""])
    return rows


def _tasks(library: Library) -> list[list[Any]]:
    counts = Counter("; ".join(row.get("tasks") or ["(none)"]) for row in library.rows)
    return [[task, n] for task, n in counts.most_common(50)]
