"""The page that shows how a policy got better inside the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from worldmodel.report import Report


def write_report(result: dict[str, Any], out: Path) -> None:
    """Write ``out/report.html`` from the ``result`` of `worldmodel agent`, and the films in it."""
    tried, rounds = result["tried"], result["rounds"]
    report = Report(
        "A policy trained inside the model",
        f"{result['policy']} in {result['checkpoint']}, {len(rounds['improved'])} rounds, "
        f"keep={result['keep']}; tried in {result['env']} on {tried['start']['episodes']} episodes",
    ).figures(
        {
            "success in the simulator, before": _show(tried["start"]),
            "and after": _show(tried["improved"]),
            "imagined env steps": f"{result['imagined_steps']['improved']:,}",
            "minutes": f"{result['minutes']['improved']:.1f}",
        }
    )
    names = list(tried)
    report.heading("In the simulator, the same episodes for all").table(
        ["", "success, Wilson 95 %", *(f"beside {name}: won, lost, p" for name in names)],
        [[n, _show(tried[n]), *(_beside(tried[n], o) for o in names)] for n in names],
    ).text("p is that of the exact sign test over the episodes that only one of the two won.")
    by_round = {
        arm: [tried[n]["success_rate"] for n in names if _arm(n) in ("start", arm)]
        for arm in rounds if f"{arm}-1" in tried
    }  # fmt: skip
    if by_round:
        report.heading("Success in the simulator, by rounds trained")
        lines = {arm: ([float(k) for k in range(len(v))], v) for arm, v in by_round.items()}
        report.chart(lines, x_label="rounds")
    outcomes = sorted({o for row in tried.values() for o in row["outcomes"]})
    report.heading("How the episodes ended there").table(
        ["outcome", *names],
        [[o, *(row["outcomes"].get(o, 0) for row in tried.values())] for o in outcomes],
    )
    imagined = {
        name: (
            [float(k) for k in range(len(rows))], [row["imagined_success"] for row in rows]
        )
        for name, rows in rounds.items() if "imagined_success" in rows[0]
    }  # fmt: skip
    if imagined:
        report.heading("Success by round, inside the model, as the policies were then")
        report.chart(imagined, x_label="round")
    columns = (
        "round",
        "imagined_success",
        "kept",
        "imagined_steps",
        "loss_plan",
        "minutes",
    )
    for name, rows in rounds.items():
        report.heading(f"Rounds: {name}").table(
            [column.replace("_", " ") for column in columns],
            [[_cell(row.get(column)) for column in columns] for row in rows],
        )
    report.heading("Imagined episodes of the last round that has any")
    for row in reversed(rounds["improved"]):
        films = sorted((out / f"round-{row['round']}").glob("*.mp4"))
        if films:
            for film in films:
                report.video(film, f"round {row['round']}, {film.stem} in the model's eyes")
            break
    report.write(out / "report.html")


def _arm(name: str) -> str:
    """Of ``improved-1``, what the first round of it left, or ``improved``, what the last did."""
    return name.split("-")[0]


def _beside(tried: dict[str, Any], other: str) -> str:
    pair = tried["beside"].get(other)
    return f"{pair['won']}, {pair['lost']}, {pair['p']:.2g}" if pair else ""


def _show(tried: dict[str, Any]) -> str:
    low, high = tried["wilson95"]
    return f"{tried['success_rate']:.3f} [{low:.3f}, {high:.3f}]"


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
