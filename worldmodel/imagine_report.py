"""The page that shows a rollout study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from worldmodel.fidelity import Fidelity
from worldmodel.report import Report


def write_report(result: dict[str, Any], studies: dict[str, dict[str, Any]], out: Path) -> None:
    """Write ``out/report.html`` from the figures and the curves of every study."""
    first = next(iter(studies.values()))["imagined"]
    names = list(first.arrays)
    millimetres = [n for n in names if n.endswith("_mm")]
    report = Report(
        "Imagined beside simulated",
        f"{result['checkpoint']} in {result['env']}: {len(first.arrays['psnr'])} episodes of each "
        f"kind from seed {result['seed']}, K = {result['flow_steps']}",
    )
    cards = {}
    for kind in studies:
        figures = result[kind]["imagined"]
        for name in (*millimetres, *(n for n in names if n.endswith("_agreement"))):
            cards[f"{kind}: {_label(name)}"] = _show(name, figures[name])
        if not millimetres:
            cards[f"{kind}: PSNR [dB]"] = _show("psnr", figures["psnr"])
    report.figures(cards)
    report.text(
        "From one real observation on, the model sees nothing but its own pictures, and takes the "
        "actions that the simulator took. "
        + (
            "A state probe, trained on simulator frames, reads both. "
            if millimetres
            else "No state probe reads them: pictures are compared with pictures. "
        )
        + "Brackets are 95 % bootstrap intervals over episodes; medians for mm, means for the rest."
    )
    for kind, study in studies.items():
        report.heading(kind.capitalize())
        rows = []
        for name, fidelity in study.items():
            if isinstance(fidelity, Fidelity):
                figures = result[kind][name]
                rows.append([name, *(_show(n, figures[n]) for n in names)])
        report.table(["frames", *map(_label, names)], rows)
        for name in millimetres or ["psnr"]:
            lines = {}
            for row in ("imagined", "history not noised", "first frame repeated"):
                steps, middle, low, high = study[row].curve(name)
                lines[row] = (steps, middle)
                if row == "imagined":
                    lines |= {"95 %, low": (steps, low), "95 %, high": (steps, high)}
            report.chart(lines, x_label="step", y_label=_label(name))
        for film in sorted((out / "videos").glob(f"{kind}_*.mp4")):
            report.video(film, f"{film.stem}: each camera real, then imagined")
        drift = study["proprio_mm"]
        if drift:
            report.text("Where imagined proprioception puts the gripper, error in mm (median):")
            report.table([*drift], [[_show("_mm", v) for v in drift.values()]])
    _outcomes(report, result["outcomes"])
    if result["actions"]:
        _actions(report, result["actions"])
    if result["endless"]:
        report.heading("One long run, the model's own policy in the loop").text(
            "The scene begins anew from another real observation when the model says that the task "
            "is done, or after a while. Colours are channel means, in standard deviations of real "
            "frames; arm and object are looked for in every few frames."
        )
        rows = [[name.replace("_", " "), _show(name, v)] for name, v in result["endless"].items()]
        report.table(["what", "figure"], rows)
    probes = {kind: study["probe"] for kind, study in studies.items()}
    if any(probes.values()):
        rows = [[kind, *(_show(k, v) for k, v in error.items())] for kind, error in probes.items()]
        columns = map(_label, next(iter(probes.values())))
        report.heading("The probe's own error, on these real frames")
        report.table(["", *columns], rows)
    report.write(out / "report.html")


def _actions(report: Report, actions: dict[str, Any]) -> None:
    report.heading("Do actions matter?").text(
        f"{actions['starts']} starts in the midst of demonstrations, {actions['branches']} random "
        f"action sequences of {actions['length']} steps from each: what moved, imagined against "
        "simulated. Shuffled: against the outcome of another sequence from the same start."
    )
    rows = [
        [name, *(f"{value[k]:.3g}" for k in ("error_mm", "correlation", "direction_deg", "moved"))]
        for name, value in actions.items()
        if isinstance(value, dict) and "correlation" in value
    ]
    report.table(["of what", "error [mm]", "correlation", "direction [deg]", "moved"], rows)
    for name, value in actions.items():
        if isinstance(value, dict) and "top1_regret_mm" in value:
            report.text(
                f"Choosing the sequence that brings {name} nearest in the imagination loses "
                f"{value['top1_regret_mm']:.1f} mm against the best one; a random choice loses "
                f"{value['random_regret_mm']:.1f} mm."
            )


def _outcomes(report: Report, outcomes: dict[str, dict[str, Any]]) -> None:
    report.heading("Does it know when the task is done?").text(
        "What the outcome leaf reads at every step, in real and in imagined frames: area under "
        "the ROC curve, expected calibration error, and the verdict on whole episodes."
    )
    names = [n for n in outcomes["imagined"] if n != "granted"]
    rows = [[n.replace("_", " "), *(_show(n, o.get(n)) for o in outcomes.values())] for n in names]
    report.table(["", *outcomes], rows)
    kinds = outcomes["imagined"]["granted"]
    rows = [
        [kind, counts["episodes"], *(o["granted"][kind]["granted"] for o in outcomes.values())]
        for kind, counts in kinds.items()
    ]
    report.text("Episodes by how they really ended, and how many of them count as successes:")
    report.table(["ended", "episodes", *outcomes], rows)


def _label(name: str) -> str:
    return name.replace("_mm", " [mm]").replace("_", " ").replace("psnr", "PSNR [dB]")


def _show(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, (tuple, list)):
        digits = 1 if name.endswith("_mm") or name == "psnr" else 3
        middle, low, high = (f"{v:.{digits}f}" for v in value)
        return f"{middle} [{low}, {high}]"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
