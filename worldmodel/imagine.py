"""The rollout study: imagined beside simulated, the same actions, over whole episodes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.branches import BranchConfig, branch
from worldmodel.calibration import figures as calibration
from worldmodel.demo import write_comparison
from worldmodel.endless import EndlessConfig, endless
from worldmodel.fidelity import Fidelity
from worldmodel.files import write_json
from worldmodel.imagine_report import write_report
from worldmodel.leaves import READINGS
from worldmodel.metrics import median_interval
from worldmodel.model import WorldModel
from worldmodel.probe import StateProbe, own_error
from worldmodel.recording import Recording, check_truth, record
from worldmodel.retrace import Retraced, dream, watch
from worldmodel.rollout import RolloutConfig
from worldmodel.runs import claim
from worldmodel.spec import attribute
from worldmodel.steady import STILL, can_tell, moved
from worldmodel.trials import MakeEnv, MakePolicy

#: what is imagined: name -> `explore` of record(); in mistakes an expert acts that errs
BEHAVIOURS = {"demonstrations": False, "explorations": True, "mistakes": False}


@dataclass(frozen=True)
class ImagineConfig:
    episodes: int = field(
        default=100,
        metadata={"help": "episodes of each kind: demonstrations, explorations, mistakes"},
    )
    mistakes: bool = field(
        default=True, metadata={"help": "with policy=scripted, those of a mistaken expert too"}
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
    make_env: MakeEnv, who: Mapping[str, MakePolicy], make_own: MakePolicy, model: WorldModel,
    probe: StateProbe | None, config: ImagineConfig, branches: BranchConfig, long: EndlessConfig,
    sampler: RolloutConfig, out: Path, about: dict[str, Any],
    on_progress: Callable[[int, str], None],
) -> dict[str, Any]:  # fmt: skip
    """Write videos, ``result.json`` and ``report.html`` into ``out``.

    Each episode starts from one real observation and takes the actions that were executed in the
    simulator: for every kind in ``who``, of those in BEHAVIOURS, by the policy named there.
    ``make_own`` is the model's own policy, for the long run. Without a ``probe`` only pictures and
    proprioception are compared, and not whether actions matter.
    ``on_progress`` is told of every episode acted, imagined and judged: see
    :func:`total_progress`. What was imagined is kept in ``out`` until all of it is judged, and a
    rollout that was cut off goes on; UserError where ``out`` holds what something else imagined.
    """
    asked = {"rollout": asdict(config), "sampler": asdict(sampler), "kinds": list(who)}
    claim(out / "rollout.json", {**about, **asked}, "rollout")
    parts = out / "parts"
    env = make_env()
    actors = {kind: make_policy(env) for kind, make_policy in who.items()}
    studies, matter, run = {}, {}, {}
    everything: list[tuple[Recording, Retraced, Retraced]] = []
    count = attribute(env, "count")
    unnoised = replace(sampler, context_noise=0.0)
    try:
        for kind, actor in actors.items():
            explore, recordings = BEHAVIOURS[kind], []
            for seed in range(config.seed, config.seed + config.episodes):
                recordings.append(record(env, actor, model.spec, seed, explore, config.steps))
                on_progress(1, f"{kind}: acted with seed {seed}")
            if probe is not None:
                check_truth(recordings)

            def told(n: int, kind: str = kind) -> None:
                on_progress(n, f"{kind}: imagined")

            dreamt = dream(model, recordings, sampler, config.seed, told, parts / kind / "imagined")
            imagined = [d.images for d in dreamt]
            plain = dream(model, recordings, unnoised, config.seed, told, parts / kind / "unnoised")
            rows = {
                "imagined": imagined,
                "history not noised": [d.images for d in plain],
                "first frame repeated": [
                    np.repeat(r.images[:1], len(r), axis=0) for r in recordings
                ],
                "real frames": [r.images[1:] for r in recordings],
                **{
                    f"only {name} imagined": _only(c, imagined, recordings)
                    for c, name in enumerate(model.spec.cameras)
                },
            }
            studies[kind] = {
                name: Fidelity(frames, recordings, probe, model.spec.cameras, count)
                for name, frames in rows.items()
            }
            studies[kind]["proprio_mm"] = drift(dreamt, recordings)
            watched = watch(model, recordings, told, parts / kind / "watched")
            everything += zip(recordings, watched, dreamt, strict=True)
            for r, frames in list(zip(recordings, imagined, strict=True))[: config.videos]:
                name = f"{kind}_{r.seed}.mp4"
                write_comparison(out / "videos" / name, r.images[1:], frames)
            if kind == "demonstrations":
                if probe is not None:
                    matter = branch(
                        env, model, probe, recordings, branches, sampler, config.seed, on_progress
                    )
                else:
                    on_progress(branches.starts, "no probe: no branches")
                if long.steps:
                    run = endless(
                        model, make_own(env), probe, recordings, count, long, sampler, config.seed,
                        out, on_progress,
                    )  # fmt: skip
            studies[kind]["proprio_rmse"] = proprio_error(dreamt, recordings)
            studies[kind]["probe"] = own_error(probe, recordings) if probe is not None else {}
    finally:
        env.close()
    result = {
        **about, "seed": config.seed, "flow_steps": sampler.flow_steps, "actions": matter,
        "endless": run,
        "outcomes": outcomes_of(everything, probe),
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
    shutil.rmtree(parts)
    return result


def total_progress(
    kinds: int, config: ImagineConfig, branches: BranchConfig, long: EndlessConfig
) -> int:
    """How many units of work :func:`imagine` tells of."""
    return kinds * 4 * config.episodes + branches.starts + long.steps


def _only(
    camera: int, imagined: Sequence[np.ndarray], recordings: Sequence[Recording]
) -> list[np.ndarray]:
    """Real frames with this camera's pictures imagined: which camera spoils the reading."""
    mixed = [r.images[1:].copy() for r in recordings]
    for frames, found in zip(mixed, imagined, strict=True):
        frames[:, camera] = found[:, camera]
    return mixed


def outcomes_of(
    everything: Sequence[tuple[Recording, Retraced, Retraced]], probe: StateProbe | None
) -> dict[str, dict[str, Any]]:
    """Calibration of the outcome leaf over all episodes, in real frames and in imagined ones; and,
    where the ``probe`` can tell, of successes that are believed where things lie still until they
    are held (worldmodel.steady), by a model that never doubts."""
    recordings, watched, dreamt = map(list, zip(*everything, strict=True))
    rows = {
        "real frames": calibration([w.outcomes for w in watched], recordings),
        "imagined": calibration([d.outcomes for d in dreamt], recordings),
    }
    if probe is not None and can_tell(probe):
        doubted = np.array(READINGS) == "strayed"
        trusting = [np.where(doubted, 0.0, d.outcomes) for d in dreamt]
        still = [
            moved(probe, np.concatenate([r.images[:1], d.images])) <= STILL
            for r, d in zip(recordings, dreamt, strict=True)
        ]
        rows["imagined, never doubted"] = calibration(trusting, recordings)
        rows["imagined, believed where things lie still"] = calibration(trusting, recordings, still)
    return rows


def drift(dreamt: Sequence[Retraced], recordings: Sequence[Recording]) -> dict[str, Any]:
    """Where imagined proprioception puts the gripper against the simulator's, in mm at some steps.

    For envs whose proprioception begins with the position of what the truth names first.
    """
    first = next(iter(recordings[0].truth), "")
    if not first or recordings[0].truth[first].shape != recordings[0].proprio[:, :3].shape:
        return {}
    if not np.allclose(recordings[0].truth[first], recordings[0].proprio[:, :3], atol=1e-3):
        return {}
    wrong = [
        1000 * np.linalg.norm(d.proprio[:, :3] - r.proprio[1:, :3], axis=-1)
        for d, r in zip(dreamt, recordings, strict=True)
    ]
    rows = {f"step {n}": [w[n - 1] for w in wrong if len(w) >= n] for n in (1, 5, 10, 30, 100)}
    rows["whole episode"] = [float(np.median(w)) for w in wrong]
    return {k: median_interval(np.array(v)) for k, v in rows.items() if len(v) >= 5}


def proprio_error(dreamt: Sequence[Retraced], recordings: Sequence[Recording]) -> list[float]:
    """(P,) root mean square error of imagined proprioception over all steps, in its own units."""
    wrong = [d.proprio - r.proprio[1:] for d, r in zip(dreamt, recordings, strict=True)]
    return np.sqrt(np.mean(np.concatenate(wrong) ** 2, axis=0)).tolist()
