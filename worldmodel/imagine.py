"""Imagined beside real: the same actions in the simulator and in the model, step by step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodel.demo import record, write_comparison
from worldmodel.errors import UserError
from worldmodel.files import write_json
from worldmodel.metrics import psnr, ssim
from worldmodel.model import WorldModel
from worldmodel.report import Report
from worldmodel.rollout import RolloutConfig, rollout
from worldmodel.trials import MakeEnv, MakePolicy


@dataclass(frozen=True)
class ImagineConfig:
    episodes: int = field(default=4, metadata={"help": "episodes, imagined side by side"})
    seed: int = field(default=60_000, metadata={"help": "episode i runs with seed + i"})
    steps: int = field(
        default=60,
        metadata={"help": "horizon; past an episode's end the robot is told to hold still"},
    )

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.steps < 1:
            raise ValueError(
                f"expected episodes and steps >= 1, got {self.episodes} and {self.steps}"
            )


def imagine(
    make_env: MakeEnv, make_policy: MakePolicy, model: WorldModel, config: ImagineConfig,
    sampler: RolloutConfig, out: Path, about: dict[str, Any],
    on_progress: Callable[[int, str], None],
) -> dict[str, Any]:  # fmt: skip
    """Write videos, ``result.json`` and ``report.html`` of imagined episodes into ``out``.

    Each starts from one real observation; errors are taken over the steps that really happened.
    ``on_progress`` is told of every episode acted and every step imagined.
    """
    env = make_env()
    policy, episodes = make_policy(env), []
    try:
        for i in range(config.episodes):
            episodes.append(record(env, policy, config.seed + i, model))
            on_progress(1, f"acted with seed {config.seed + i}")
    finally:
        env.close()
    actions = np.zeros((config.episodes, config.steps, model.spec.A), np.float32)
    for i, (_, _, action) in enumerate(episodes):
        actions[i, : len(action)] = action[: config.steps]

    def act(n: int, *_: torch.Tensor) -> torch.Tensor:
        on_progress(1, f"imagined step {n + 1}")
        return torch.from_numpy(actions[:, n])

    images = torch.from_numpy(np.stack([e[0][0] for e in episodes]))
    proprio = torch.from_numpy(np.stack([e[1][0] for e in episodes]))
    generator = torch.Generator().manual_seed(config.seed)
    start = time.perf_counter()
    found = rollout(model, images, proprio, act, config.steps, sampler, generator)
    seconds = time.perf_counter() - start
    imagined, reading = found.images.cpu().numpy(), found.proprio.cpu().numpy()
    curves = errors(episodes, imagined, reading)
    for i, (real, _, _) in enumerate(episodes):
        shown = np.minimum(np.arange(1, config.steps + 1), len(real) - 1)  # the end is held
        write_comparison(out / "videos" / f"seed_{config.seed + i}.mp4", real[shown], imagined[i])
    summary = {
        **about, "episodes": config.episodes, "seed": config.seed, "steps": config.steps,
        "flow_steps": sampler.flow_steps, "imagined_steps_per_s": actions[..., 0].size / seconds,
        **{f"mean_{name}": float(np.nanmean(curve)) for name, curve in curves.items()},
    }  # fmt: skip
    write_json(out / "result.json", summary)
    _write_report(summary, curves, out)
    return summary


def errors(
    episodes: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    imagined: np.ndarray,
    proprio: np.ndarray,
) -> dict[str, np.ndarray]:
    """Curves over the horizon, each (steps,), a mean over the episodes that lasted so long.

    ``psnr`` [dB] and ``ssim`` of the imagined frames, ``still_psnr`` of the first frame repeated,
    ``proprio_error`` the mean absolute error over what proprioception varies by.
    """
    steps = imagined.shape[1]
    if any(len(real) < 2 for real, _, _ in episodes):
        raise UserError("an episode ended before its first step: there is nothing to compare")
    names = ("psnr", "ssim", "still_psnr", "proprio_error")
    rows = {name: np.full((len(episodes), steps), np.nan) for name in names}
    spread = np.concatenate([p for _, p, _ in episodes]).std(0) + 1e-6
    for i, (real, state, _) in enumerate(episodes):
        n = min(steps, len(real) - 1)
        truth, guess = real[1 : n + 1], imagined[i, :n]  # (n, C, h, w, 3)
        rows["psnr"][i, :n] = np.minimum(psnr(guess, truth), 60).mean(-1)
        rows["ssim"][i, :n] = ssim(guess, truth).mean(-1)
        still = np.broadcast_to(real[:1], truth.shape)
        rows["still_psnr"][i, :n] = np.minimum(psnr(still, truth), 60).mean(
            -1
        )  # inf: no motion yet
        rows["proprio_error"][i, :n] = (np.abs(proprio[i, :n] - state[1 : n + 1]) / spread).mean(-1)
    longest = min(steps, max(len(real) - 1 for real, _, _ in episodes))
    return {name: np.nanmean(values[:, :longest], axis=0) for name, values in rows.items()}


def _write_report(s: dict[str, Any], curves: dict[str, np.ndarray], out: Path) -> None:
    steps = list(range(1, len(curves["psnr"]) + 1))
    report = Report(
        "Imagined beside real", f"{s['policy']} in {s['env']}, {s['episodes']} episodes"
    ).figures({
        "PSNR, mean": f"{s['mean_psnr']:.1f} dB",
        "first frame repeated": f"{s['mean_still_psnr']:.1f} dB",
        "SSIM, mean": f"{s['mean_ssim']:.3f}",
        "imagined steps/s": f"{s['imagined_steps_per_s']:.1f}",
    })  # fmt: skip
    report.heading("Error over the horizon").text(
        "From one real observation on, the model sees nothing but its own pictures. "
        "The mean is over the episodes that really lasted so long."
    )
    pictures = {"imagined": curves["psnr"], "first frame repeated": curves["still_psnr"]}
    report.chart(
        {name: (steps, list(curve)) for name, curve in pictures.items()},
        x_label="step", y_label="PSNR [dB]",
    )  # fmt: skip
    report.chart(
        {"proprio": (steps, list(curves["proprio_error"]))},
        x_label="step", y_label="error of proprio / its spread",
    )  # fmt: skip
    report.heading("Real, then imagined, for each camera")
    for film in sorted((out / "videos").glob("seed_*.mp4")):
        report.video(film, film.stem.replace("_", " "))
    report.write(out / "report.html")
