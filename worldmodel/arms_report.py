"""What the arms of an experiment came to: a table, curves, and each beside the first of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.arms import Arm, ArmsConfig, episodes_at, parse_arm, place
from worldmodel.metrics import sign_test
from worldmodel.report import Report

DRAWS = 2000  # of the bootstrap
#: where a figure of `worldmodel bench heldout` stands, and what it is called
FIGURES: dict[str, tuple[str, ...]] = {
    "plan loss at t = 0.5": ("loss at flow time", "0.5", "plan"),
    "frame loss at t = 0.5": ("loss at flow time", "0.5", "next"),
    "frame loss at t = 0.9": ("loss at flow time", "0.9", "next"),
    "error of plans": ("K=4", "plan_mae"),
    "imagined gripper [mm]": ("K=2", "gripper_mm"),
    "imagined can [mm]": ("K=2", "can_mm"),
    "imagined PSNR [dB]": ("K=2", "psnr"),
    "linear read-out of the can [mm]": ("linear read-out", "student", "can_mm"),
}


def gather(config: ArmsConfig, out: Path) -> dict[str, Any]:
    """Figures of every arm and mark, and the last mark of each beside that of the first arm."""
    arms = [parse_arm(text, config) for text in config.arms]
    result: dict[str, Any] = {
        "arms": {arm.name: [_at(config, out, arm, mark) for mark in arm.marks] for arm in arms}
    }
    first, *others = arms
    result["against"] = first.name
    result["differences"] = {
        arm.name: _difference(
            _wins(config, out, arm, arm.marks[-1]), _wins(config, out, first, first.marks[-1])
        )
        for arm in others
        if config.episodes
    }
    return result


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def _wins(config: ArmsConfig, out: Path, arm: Arm, mark: int) -> np.ndarray:
    """(seeds, episodes) 1 where an episode succeeded."""
    rows = []
    for seed in range(config.seeds):
        log = place(out, arm, seed, mark) / "eval" / "episodes.jsonl"
        episodes = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        rows.append([e["success"] for e in sorted(episodes, key=lambda e: e["seed"])])
    return np.array(rows, float)


def _at(config: ArmsConfig, out: Path, arm: Arm, mark: int) -> dict[str, Any]:
    """What an arm's trainings had come to after ``mark`` updates."""
    runs = [place(out, arm, seed, mark) for seed in range(config.seeds)]
    logs = [place(out, arm, seed) / "metrics.jsonl" for seed in range(config.seeds)]
    hours = [_hours(log, mark) for log in logs]
    found: dict[str, Any] = {"updates": mark, "hours": float(np.mean(hours))}
    if episodes_at(config, arm, mark):
        wins = _wins(config, out, arm, mark)
        found["success"] = bootstrap(wins, lambda w: float(w.mean()))
        found["success of each seed"] = wins.mean(axis=1).tolist()
    measured = [_read(run / "heldout" / "result.json") for run in runs]
    for name, path in FIGURES.items():
        values = [_down(m, path) for m in measured]
        if all(value is not None for value in values):
            found[name] = _spread(np.array(values, float))
    times = measured[0]["loss at flow time"]
    found["loss at flow time"] = {
        t: {k: _mean([m["loss at flow time"][t][k] for m in measured]) for k in times[t]}
        for t in times
    }
    found |= _last(logs, mark)
    return found


def _mean(values: list[float | None]) -> float:
    """NaN where one of them is not known."""
    return float(np.mean(np.array(values, float)))


def _hours(log: Path, mark: int) -> float:
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return next(row["hours"] for row in rows if row["step"] >= mark)


def _last(logs: list[Path], mark: int) -> dict[str, float]:
    """Means over seeds of what the training logged of its features, about ``mark``."""
    found = {}
    for name in ("cosine_next", "cosine_plan", "feature_norm"):
        values = []
        for log in logs:
            rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
            values += [row[name] for row in rows if row["step"] == mark and name in row]
        if values:
            found[name] = float(np.mean(values))
    return found


def _down(figures: dict[str, Any], path: tuple[str, ...]) -> float | None:
    value: Any = figures
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value[0] if isinstance(value, list) else value


def _spread(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of the seeds, the lowest and the highest."""
    return float(values.mean()), float(values.min()), float(values.max())


def bootstrap(
    values: np.ndarray, statistic: Callable[[np.ndarray], float]
) -> tuple[float, float, float]:
    """``statistic`` of (seeds, episodes) with a 95 % interval: seeds are redrawn, then episodes,
    the same ones in all, for every arm meets the same."""
    rng, drawn = np.random.default_rng(0), []
    S, E = values.shape
    for _ in range(DRAWS):
        seeds, episodes = rng.integers(0, S, S), rng.integers(0, E, E)
        drawn.append(statistic(values[seeds][:, episodes]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return statistic(values), float(low), float(high)


def _difference(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Success of an arm less that of another in the same episodes from the same seeds."""
    paired = ours - theirs
    better, worse = int((paired > 0).sum()), int((paired < 0).sum())
    return {
        "difference": bootstrap(paired, lambda d: float(d.mean())),
        "of each seed": paired.mean(axis=1).tolist(),
        "episodes better": better, "episodes worse": worse, "p": sign_test(better, worse),
    }  # fmt: skip


def show(value: tuple[float, float, float], digits: int = 3) -> str:
    """A value and its interval."""
    return "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(*value, d=digits)


def spread(value: tuple[float, float, float], digits: int) -> str:
    """The mean of trainings, and the lowest and highest where they differ: where there are some."""
    return show(value, digits) if value[1] < value[2] else f"{value[0]:.{digits}f}"


def table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the last mark: a column for each arm."""
    names = [n for n in FIGURES if any(n in marks[-1] for marks in result["arms"].values())]
    header = ["arm", "updates", "hours", "success", "against the first, p", *names]
    rows = []
    for arm, marks in result["arms"].items():
        last, beside = marks[-1], result["differences"].get(arm)
        versus = f"{show(beside['difference'])}, {beside['p']:.2g}" if beside else "–"
        rows.append([
            arm, str(last["updates"]), f"{last['hours']:.3f}",
            show(last["success"]) if "success" in last else "–", versus,
            *(spread(last[n], 2 if "mm" in n or "dB" in n else 4) if n in last else "–"
              for n in names),
        ])  # fmt: skip
    (_, *arms), *figures = zip(header, *rows, strict=True)
    return ["arm", *arms], [list(row) for row in figures]


def write_report(result: dict[str, Any], config: ArmsConfig, folder: Path) -> None:
    """Write ``folder/report.html``."""
    report = Report(
        "Objectives side by side",
        f"{len(config.arms)} arms, trainings of each: {config.seeds}, on {config.data}",
    )
    arms = result["arms"]
    report.text(
        f"Success: {config.seeds} x {config.episodes} episodes, the same for all; intervals (95 %) "
        "redraw trainings and episodes; p is the exact sign test of the episodes in which two arms "
        "differ, the trainings taken as given. Other figures: mean of the trainings [lowest, "
        "highest]."
    )
    report.table(*table(result))
    curves = {"success": "success", **{name: name for name in FIGURES}}
    for name in curves:
        found = {arm: [m for m in marks if name in m] for arm, marks in arms.items()}
        if not any(found.values()):
            continue
        report.heading(name)
        for x, label in (("updates", "updates"), ("hours", "hours of training, one core")):
            lines = {
                arm: ([m[x] for m in marks], [m[name][0] for m in marks])
                for arm, marks in found.items()
            }
            report.chart(lines, x_label=label, y_label=name)
    for kind in ("plan", "next"):
        report.heading(f"Loss of {kind} at each flow time, at the end")
        lines = {}
        for arm, marks in arms.items():
            by_time = marks[-1]["loss at flow time"]
            lines[arm] = ([float(t) for t in by_time], [row[kind] for row in by_time.values()])
        report.chart(lines, x_label="flow time t (1 is noise)", y_label="velocity loss")
    report.write(folder / "report.html")
