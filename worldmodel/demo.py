"""The main job in one go: act in the simulator, imagine one of those episodes, write a report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodel.evaluate import EvalConfig, evaluate
from worldmodel.files import write_json
from worldmodel.metrics import psnr
from worldmodel.model import WorldModel
from worldmodel.recording import record
from worldmodel.report import Report
from worldmodel.rollout import Imagination, RolloutConfig, generators_from
from worldmodel.trials import MakeEnv, MakePolicy
from worldmodel.video import side_by_side, write_mp4


@dataclass(frozen=True)
class DemoConfig:
    episodes: int = field(default=20, metadata={"help": "episodes acted in the simulator"})
    seed: int = field(default=50_000, metadata={"help": "episode i runs with seed + i"})
    workers: int = field(default=0, metadata={"help": "processes; 0: one per core"})
    imagine: int = field(default=30, metadata={"help": "steps imagined ahead of one episode"})
    flow_steps: int = field(default=2, metadata={"help": "K of the imagined frames"})


def demo(
    make_env: MakeEnv, make_policy: MakePolicy, model: WorldModel, config: DemoConfig, out: Path,
    about: dict[str, Any], on_progress: Callable[[int, str], None],
) -> dict[str, Any]:  # fmt: skip
    """Run the demo and write ``report.html``, ``result.json`` and the videos into ``out``.

    ``on_progress`` is told of every finished episode and of every imagined step.
    """
    evaluation = EvalConfig(config.episodes, config.seed, config.workers, videos=3)
    result = evaluate(make_env, make_policy, evaluation, out, about=about, on_progress=on_progress)
    chosen = next((e for e in result.episodes if e.success), result.episodes[0])
    env = make_env()
    try:
        lived = record(env, make_policy(env), model.spec, chosen.seed)
    finally:
        env.close()
    steps, images = min(config.imagine, len(lived)), lived.images
    world = Imagination(
        model, torch.from_numpy(images[None, 0]), torch.from_numpy(lived.proprio[None, 0]),
        generators=generators_from(config.seed, 1), config=RolloutConfig(config.flow_steps),
    )  # fmt: skip
    frames = []
    for n in range(steps):
        frames.append(world.step(torch.from_numpy(lived.action[None, n]))[0][0].cpu().numpy())
        on_progress(1, f"imagining step {n + 1}")
    imagined = np.stack(frames)
    real = images[1 : steps + 1]
    write_comparison(out / "videos" / "imagined.mp4", real, imagined)
    quality = np.minimum(psnr(imagined, real), 60.0).mean(-1).tolist()  # inf where nothing moved
    still = np.minimum(psnr(np.broadcast_to(images[:1], real.shape), real), 60.0).mean(-1).tolist()
    summary = {
        **result.summary, "imagined_steps": steps, "imagined_seed": chosen.seed,
        "imagined_psnr": float(np.mean(quality)), "first_frame_psnr": float(np.mean(still)),
    }  # fmt: skip
    write_json(out / "result.json", summary)
    write_demo_report(summary, out, quality, still)
    return summary


def write_comparison(path: Path, real: np.ndarray, imagined: np.ndarray) -> None:
    """A clip of real (left) and imagined (right) cameras: uint8 (n, C, h, w, 3) each."""
    columns = [clip[:, c] for c in range(real.shape[1]) for clip in (real, imagined)]
    write_mp4(path, side_by_side(columns), fps=5)


def write_demo_report(
    s: dict[str, Any], out: Path, quality: list[float], still: list[float]
) -> None:
    low, high = s["wilson95"]
    report = Report(
        "worldmodel: one model that acts and imagines",
        f"{s['policy']} in {s['env']}: {s['episodes']} episodes from seed {s['seed']}",
    ).figures({
        "picked up and brought home": f"{s['successes']} of {s['episodes']}",
        "95 % interval (Wilson)": f"{100 * low:.0f} – {100 * high:.0f} %",
        "act(), median": f"{s['act_ms_median']:.2g} ms",
        "imagined frames, PSNR": f"{s['imagined_psnr']:.1f} dB",
    })  # fmt: skip
    report.heading("Imagined ahead").text(
        f"From one real observation of seed {s['imagined_seed']} and the actions that the policy "
        f"took, the model generates {s['imagined_steps']} steps on its own pictures. For each "
        "camera: real, then imagined. Five frames a second, half the real speed."
    )
    report.video(out / "videos" / "imagined.mp4", "front: real, imagined; wrist: real, imagined")
    steps = list(range(1, len(quality) + 1))
    report.chart(
        {"imagined": (steps, quality), "first frame repeated": (steps, still)},
        x_label="step", y_label="PSNR [dB]",
    )  # fmt: skip
    for kind, title in (("success", "Successes"), ("failure", "Failures")):
        films = sorted((out / "videos").glob(f"{kind}_*.mp4"))
        if films:
            report.heading(title)
        for film in films:
            report.video(film, film.stem.replace("_", " "))
    report.heading("How the episodes ended").table(
        ["outcome", "episodes"], [[name, n] for name, n in s["outcomes"].items()]
    )
    report.write(out / "report.html")
