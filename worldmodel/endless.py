"""One long run inside the model: a policy in the loop, thousands of steps, in bounded memory.

When the model says that the task is done, or after a while, the scene begins anew from another real
observation: a white bar on top of the film marks it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodel.fidelity import Count
from worldmodel.files import write_json
from worldmodel.model import WorldModel
from worldmodel.outcomes import Verdicts
from worldmodel.probe import StateProbe
from worldmodel.recording import Recording
from worldmodel.rollout import Imagination, RolloutConfig, generators_from
from worldmodel.trials import Actor
from worldmodel.video import VideoStream, side_by_side

FAR = 0.05  # m: a gripper further than this from where proprioception puts it is not there


@dataclass(frozen=True)
class EndlessConfig:
    steps: int = field(default=0, metadata={"help": "steps of one long run (0: none)"})
    patience: int = field(default=100, metadata={"help": "steps after which the scene begins anew"})
    sample: int = field(default=10, metadata={"help": "every so many steps a frame is judged"})


def endless(
    model: WorldModel, policy: Actor, probe: StateProbe | None, recordings: Sequence[Recording],
    count: Count | None, config: EndlessConfig, sampler: RolloutConfig, seed: int, out: Path,
    on_progress: Callable[[int, str], None],
) -> dict[str, Any]:  # fmt: skip
    """Imagine ``config.steps`` steps; starts, and what colours are real, come from ``recordings``.

    Writes ``videos/endless.mp4`` and ``endless.jsonl`` as it goes, and returns the figures.
    """
    story = recordings[0]
    hand = probe.positions[0] if probe is not None else ""
    tells = bool(hand) and story.truth[hand].shape == story.proprio[:, :3].shape
    if tells:  # whether proprio has it too
        tells = np.allclose(story.truth[hand], story.proprio[:, :3], atol=1e-3)
    real = np.concatenate([_colour(r.images) for r in recordings])
    mean, std = real.mean(0), real.std(0)
    generators, verdicts = generators_from(seed, 1), Verdicts(1)
    rows, starts, age = [], 0, 0
    world: Imagination | None = None
    over = True
    out.mkdir(parents=True, exist_ok=True)
    fps = round(model.spec.control_frequency)
    with (
        VideoStream(out / "videos" / "endless.mp4", fps) as film,
        (out / "endless.jsonl").open("w", encoding="utf-8") as log,
    ):
        for n in range(config.steps):
            if over:
                story = recordings[starts % len(recordings)]
                first = torch.from_numpy(story.images[None, 0])
                felt = torch.from_numpy(story.proprio[None, 0])
                if world is None:
                    world = Imagination(model, first, felt, generators=generators, config=sampler)
                else:
                    world.restart(np.array([0]), first, felt)
                policy.reset([seed + starts])
                verdicts.forget(np.array([0]))
                starts, age = starts + 1, 0
            assert world is not None
            images = world.show()[0].cpu().numpy()
            obs = dict(zip(model.spec.cameras, images, strict=True))
            obs["proprio"] = world.proprio[0].float().cpu().numpy()
            action = policy.act({k: v[None] for k, v in obs.items()})
            shown, proprio = world.step(torch.from_numpy(np.clip(action, -1.0, 1.0)))
            picture, age = shown[0].cpu().numpy(), age + 1
            frame = side_by_side([camera[None] for camera in picture])[0]
            if age == 1:
                frame = np.concatenate([np.full_like(frame[:8], 255), frame[8:]])
            film.add(frame[: len(frame) // 2 * 2, : frame.shape[1] // 2 * 2])
            if n % config.sample == 0:
                z = (_colour(picture[None])[0] - mean) / std
                rows.append({"step": n, "z": z.tolist()})
                if tells and probe is not None:
                    felt = proprio[:, :3].float().cpu().numpy()
                    rows[-1]["arm"] = bool(_near(probe, picture[None], felt)[0])
                if count is not None:
                    rows[-1]["seen"] = count(dict(zip(model.spec.cameras, picture, strict=True)))
                log.write(json.dumps(rows[-1]) + "\n")
                log.flush()
            over = bool(verdicts.read(world.outcomes()).success[0]) or age >= config.patience
            on_progress(1, f"endless: step {n + 1}, start {starts}")
    z = np.array([row["z"] for row in rows])  # (samples, C * 3)
    tenth = max(1, len(z) // 10)
    figures: dict[str, Any] = {
        "steps": config.steps, "starts": starts, "judged": len(rows),
        "colour_z_first_tenth": float(np.abs(z[:tenth].mean(0)).max()),
        "colour_z_last_tenth": float(np.abs(z[-tenth:].mean(0)).max()),
        "colour_beyond_3": float((np.abs(z) > 3).any(axis=1).mean()),
        "colour_beyond_3_in_real_frames": float(
            (np.abs((real - mean) / std) > 3).any(axis=1).mean()
        ),
    }  # fmt: skip
    if tells:
        assert probe is not None
        figures["arm_present"] = float(np.mean([row["arm"] for row in rows]))
        there = [_near(probe, r.images, r.proprio[:, :3]) for r in recordings]
        figures["arm_present_in_real_frames"] = float(np.concatenate(there).mean())
    if count is not None:
        figures["object_present"] = float(np.mean([row["seen"] > 0 for row in rows]))
        shown = [
            count(dict(zip(model.spec.cameras, frame, strict=True)))
            for r in recordings for frame in r.images[:: config.sample]
        ]  # fmt: skip
        figures["object_present_in_real_frames"] = float(np.mean([n > 0 for n in shown]))
    write_json(out / "endless.json", figures)
    return figures


def _near(probe: StateProbe, images: np.ndarray, tcp: np.ndarray) -> np.ndarray:
    """(n,) whether the probe finds the gripper where proprioception has it, ``tcp`` (n, 3)."""
    return np.linalg.norm(probe.read(images)[probe.positions[0]] - tcp, axis=1) < FAR


def _colour(images: np.ndarray) -> np.ndarray:
    """(n, C, h, w, 3) -> (n, C * 3) mean of every channel of every camera."""
    return images.mean(axis=(2, 3)).reshape(len(images), -1)
