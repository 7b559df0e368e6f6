"""The page that shows an evaluation."""

from __future__ import annotations

from pathlib import Path

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
