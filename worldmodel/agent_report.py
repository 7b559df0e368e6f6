"""The page that shows how a policy got better inside the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from worldmodel.report import Report


def write_report(result: dict[str, Any], out: Path) -> None:
    """Write ``out/report.html`` from the ``result`` of `worldmodel agent`, and the films in it."""
    rounds, imagined = result["rounds"], "imagined_success" in result["rounds"][0]
    before, after = result["start"], result["improved"]
    report = Report(
        "A policy trained inside the model",
        f"{result['policy']} in {result['checkpoint']}, {len(rounds)} rounds, "
        f"keep={result['keep']}; tried in {result['env']} on {after['episodes']} episodes",
    ).figures(
        {
            "success in the simulator, before": _show(before),
            "and after": _show(after),
            "imagined env steps": f"{result['imagined_steps']:,}",
            "minutes": f"{result['minutes']:.1f}",
        }
    )
    if imagined:
        x, y = list(range(len(rounds))), [row["imagined_success"] for row in rounds]
        lines = {"inside the model, as the policy was then": ([float(k) for k in x], y)}
        report.heading("Success by round").chart(lines, x_label="round")
    names = ("round", "imagined_success", "kept", "imagined_steps", "loss_plan", "minutes")
    rows = [[_cell(row.get(name)) for name in names] for row in rounds]
    report.heading("Rounds").table([name.replace("_", " ") for name in names], rows)
    outcomes = sorted({*before["outcomes"], *after["outcomes"]})
    report.heading("How the episodes ended in the simulator").table(
        ["outcome", "before", "after"],
        [[o, before["outcomes"].get(o, 0), after["outcomes"].get(o, 0)] for o in outcomes],
    )
    report.heading("Imagined episodes of the last round that has any")
    for row in reversed(rounds):
        films = sorted((out / f"round-{row['round']}").glob("*.mp4"))
        if films:
            for film in films:
                report.video(film, f"round {row['round']}, {film.stem} in the model's eyes")
            break
    report.write(out / "report.html")


def _show(tried: dict[str, Any]) -> str:
    low, high = tried["wilson95"]
    return f"{tried['success_rate']:.3f} [{low:.3f}, {high:.3f}]"


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
