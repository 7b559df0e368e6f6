"""The page that shows policies judged twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from worldmodel.report import Report


def write_report(result: dict[str, Any], out: Path) -> None:
    """Write ``out/report.html`` from the figures of :func:`worldmodel.judge.judge`."""
    table = result["table"]
    report = Report(
        "Policies judged in the simulator and inside the model",
        f"{result['checkpoint']} as the judge of {len(table)} policies in {result['env']}, "
        f"{table[0]['episodes']} paired episodes each",
    )
    names = ("pearson", "spearman", "mean_maximum_rank_violation", "mean_absolute_gap")
    report.figures({n.replace("_", " "): _show(result[n]) for n in names if n in result})
    lines = {"equal": ([0.0, 1.0], [0.0, 1.0])}
    lines |= {row["policy"]: ([row["real"]], [row["imagined"]]) for row in table}
    report.chart(lines, x_label="success in the simulator", y_label="success in the model")
    if result["probe"]:
        report.text(
            f"A success in the model counts only where, as {result['probe']} reads the imagined "
            f"pictures, nothing is moved by more than {1000 * result['still']:.0f} mm before it is "
            "held."
        )
    report.text("Brackets are 95 % intervals: Wilson's for rates, bootstrap over episodes else.")
    rows = [
        [
            row["policy"], _show((row["real"], *row["real_wilson95"])),
            _show((row["imagined"], *row["imagined_wilson95"])), f"{row['same_verdict']:.3f}",
        ]
        for row in table
    ]  # fmt: skip
    report.table(["policy", "simulator", "model", "same verdict, episode by episode"], rows)
    report.heading("One imagined episode of each")
    for k, row in enumerate(table):
        film = out / f"{k:02d}" / "imagined.mp4"
        if film.exists():
            report.video(film, row["policy"])
    report.write(out / "report.html")


def _show(value: tuple[float, float, float]) -> str:
    middle, low, high = (f"{v:.3f}" for v in value)
    return f"{middle} [{low}, {high}]"
