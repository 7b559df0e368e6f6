"""The rollout study: imagined beside simulated, the same actions, over whole episodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodel.branches import BranchConfig, branch
from worldmodel.demo import write_comparison
from worldmodel.endless import EndlessConfig, endless
from worldmodel.fidelity import Fidelity
from worldmodel.files import write_json
from worldmodel.imagine_report import write_report
from worldmodel.model import WorldModel
from worldmodel.probe import StateProbe, own_error
from worldmodel.recording import Recording, check_truth, record
from worldmodel.rollout import Imagination, RolloutConfig, generators_from
from worldmodel.trials import MakeEnv, MakePolicy

BATCH = 32
#: what is imagined: name -> `explore` of record()
BEHAVIOURS = {"demonstrations": False, "explorations": True}


@dataclass(frozen=True)
class ImagineConfig:
    episodes: int = field(
        default=100, metadata={"help": "episodes of each kind: demonstrations, explorations"}
    )
    seed: int = field(default=60_000, metadata={"help": "episode i runs with seed + i"})
    steps: int = field(default=100, metadata={"help": "longest horizon"})
    videos: int = field(default=4, metadata={"help": "videos of each kind"})

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.steps < 1 or self.videos < 0:
            raise ValueError(
                "expected episodes and steps >= 1, videos >= 0; got "
                f"{self.episodes}, {self.steps} and {self.videos}"
            )


def imagine(
    make_env: MakeEnv, make_policy: MakePolicy, make_own: MakePolicy, model: WorldModel,
    probe: StateProbe, config: ImagineConfig, branches: BranchConfig, long: EndlessConfig,
    sampler: RolloutConfig, out: Path, about: dict[str, Any],
    on_progress: Callable[[int, str], None],
) -> dict[str, Any]:  # fmt: skip
    """Write videos, ``result.json`` and ``report.html`` into ``out``.

    Each episode starts from one real observation and takes the actions that were executed in the
    simulator, ``make_policy``'s; ``make_own`` is the model's own policy, for the long run.
    ``on_progress`` is told of every episode acted, imagined and judged: see
    :func:`total_progress`.
    """
    env = make_env()
    policy, studies, matter, run = make_policy(env), {}, {}, {}
    count = getattr(env.unwrapped, "count", None)
    unnoised = replace(sampler, context_noise=0.0)
    try:
        for kind, explore in BEHAVIOURS.items():
            recordings = []
            for i in range(config.episodes):
                recordings.append(
                    record(env, policy, model.spec, config.seed + i, explore, config.steps)
                )
                on_progress(1, f"{kind}: acted with seed {config.seed + i}")
            check_truth(recordings)
            start = time.perf_counter()
            imagined = dream(model, recordings, sampler, config.seed, on_progress)
            seconds = time.perf_counter() - start
            rows = {
                "imagined": imagined,
                "history not noised": dream(model, recordings, unnoised, config.seed, on_progress),
                "first frame repeated": [
                    np.repeat(r.images[:1], len(r), axis=0) for r in recordings
                ],
                "real frames": [r.images[1:] for r in recordings],
            }
            studies[kind] = {
                name: Fidelity(frames, recordings, probe, model.spec.cameras, count)
                for name, frames in rows.items()
            }
            studies[kind]["steps_per_s"] = sum(map(len, recordings)) / seconds
            for r, frames in list(zip(recordings, imagined, strict=True))[: config.videos]:
                name = f"{kind}_{r.seed}.mp4"
                write_comparison(out / "videos" / name, r.images[1:], frames)
            if not explore:
                matter = branch(
                    env, model, probe, recordings, branches, sampler, config.seed, on_progress
                )
                if long.steps:
                    run = endless(
                        model, make_own(env), probe, recordings, count, long, sampler, config.seed,
                        out, on_progress,
                    )  # fmt: skip
            studies[kind]["probe"] = own_error(probe, recordings)
    finally:
        env.close()
    result = {
        **about, "seed": config.seed, "flow_steps": sampler.flow_steps, "actions": matter,
        "endless": run,
        **{
            kind: {
                name: value.figures() if isinstance(value, Fidelity) else value
                for name, value in study.items()
            }
            for kind, study in studies.items()
        },
    }  # fmt: skip
    write_json(out / "result.json", result)
    write_report(result, studies, out)
    return result


def total_progress(config: ImagineConfig, branches: BranchConfig, long: EndlessConfig) -> int:
    """How many units of work :func:`imagine` tells of."""
    return len(BEHAVIOURS) * 3 * config.episodes + branches.starts + long.steps


def dream(
    model: WorldModel, recordings: Sequence[Recording], sampler: RolloutConfig, seed: int,
    on_progress: Callable[[int, str], None],
) -> list[np.ndarray]:  # fmt: skip
    """Imagined frames uint8 (T, C, h, w, 3) of each recording, from its o_0 and its actions."""
    order = sorted(range(len(recordings)), key=lambda i: len(recordings[i]))  # alike in length
    found: dict[int, np.ndarray] = {}
    for at in range(0, len(order), BATCH):
        rows = order[at : at + BATCH]
        part = [recordings[i] for i in rows]
        steps = max(map(len, part))
        actions = np.zeros((len(part), steps, model.spec.A), np.float32)
        for k, r in enumerate(part):
            actions[k, : len(r)] = r.action
        world = Imagination(
            model, torch.from_numpy(np.stack([r.images[0] for r in part])),
            torch.from_numpy(np.stack([r.proprio[0] for r in part])),
            generators=generators_from(seed + at, len(part)), config=sampler,
        )  # fmt: skip
        frames = [
            world.step(torch.from_numpy(actions[:, n]))[0].cpu().numpy() for n in range(steps)
        ]
        whole = np.stack(frames, axis=1)
        found |= {i: whole[k, : len(part[k])] for k, i in enumerate(rows)}
        on_progress(len(rows), f"imagined {len(found)} episodes")
    return [found[i] for i in range(len(recordings))]
