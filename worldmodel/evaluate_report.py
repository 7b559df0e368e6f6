"""The page that shows an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from worldmodel.evaluate import EvalResult
from worldmodel.report import Report


def write_report(result: EvalResult, folder: Path) -> None:
    """Write ``folder/report.html`` from a finished evaluation whose videos lie in ``folder``."""
    s = result.summary
    low, high = s["wilson95"]
    steps = s["mean_steps_to_success"]
    report = Report(
        f"{s['policy'] or 'policy'} in {s['env'] or 'env'}",
        f"{s['episodes']} episodes, seeds {s['seed']} to {s['seed'] + s['episodes'] - 1}",
    ).figures(
        {
            "success": f"{100 * s['success_rate']:.1f} %",
            "95 % interval (Wilson)": f"{100 * low:.1f}–{100 * high:.1f} %",
            "steps to success, mean": "–" if steps is None else f"{steps:.1f}",
            "act(), median": f"{s['act_ms_median']:.2g} ms",
            "act(), 95th percentile": f"{s['act_ms_p95']:.2g} ms",
        }
    )
    if s["tasks"]:
        mean = sum(t["success_rate"] for t in s["tasks"].values()) / len(s["tasks"])
        report.heading("Task by task").text(
            f"Success over the {len(s['tasks'])} tasks, each counted the same: {100 * mean:.1f} %."
        )
        report.table(
            ["task", "success", "95 % interval (Wilson)", "episodes", "steps to success", "outcomes"],
            [_task_row(name, t) for name, t in s["tasks"].items()],
        )
    report.heading("How the episodes ended")
    share = 100 / s["episodes"]
    report.table(
        ["outcome", "episodes", "share"],
        [[name, n, f"{share * n:.1f} %"] for name, n in s["outcomes"].items()],
    )
    films = [e for e in result.episodes if e.video and (folder / e.video).exists()]
    for success, title in ((True, "Successes"), (False, "Failures")):
        chosen = [e for e in films if e.success is success]
        if chosen:
            report.heading(title)
        for e in chosen:
            caption = f"seed {e.seed}: {e.outcome}, {e.length} steps"
            report.video(folder / str(e.video), caption)
    failed = [e for e in result.episodes if not e.success]
    if failed:
        report.heading("Every failure").table(
            ["seed", "outcome", "steps", "return"],
            [[e.seed, e.outcome, e.length, f"{e.reward:.2f}"] for e in failed[:200]],
        )
    report.heading("Set-up")
    known = {k: v for k, v in s.items() if isinstance(v, str) and v}
    known |= {f"env.{k}": v for k, v in s.get("env_options", {}).items() if v is not None}
    report.table(["", ""], [*known.items(), *s["hardware"].items()])
    report.write(folder / "report.html")


def _task_row(name: str, t: dict[str, Any]) -> list[Any]:
    low, high = t["wilson95"]
    steps = t["mean_steps_to_success"]
    ends = ", ".join(f"{n} {outcome}" for outcome, n in t["outcomes"].items())
    return [
        name, f"{100 * t['success_rate']:.1f} %", f"{100 * low:.1f}–{100 * high:.1f} %",
        t["episodes"], "–" if steps is None else f"{steps:.1f}", ends,
    ]  # fmt: skip
