"""Policies judged in the simulator and inside the model, from the same starts.

Inside the model the outcome leaf says who succeeded, and, where it is asked, a state probe whether
that is to be believed (worldmodel.steady). What counts is whether both judges put the policies into
the same order, and how far their success rates are apart.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.evaluate import EvalConfig, evaluate
from worldmodel.files import write_json
from worldmodel.metrics import mean_maximum_rank_violation, pearson, spearman, wilson
from worldmodel.model import WorldModel
from worldmodel.practise import Practice, practise
from worldmodel.probe import StateProbe
from worldmodel.rollout import RolloutConfig
from worldmodel.runs import hardware
from worldmodel.spec import DataSpec
from worldmodel.starts import Starts, starts_from
from worldmodel.steady import STILL, moved
from worldmodel.trials import MakeEnv, MakePolicy, policy_alone
from worldmodel.video import side_by_side, write_mp4

DRAWS = 1000  # of the bootstrap


@dataclass(frozen=True)
class JudgeConfig:
    policies: tuple[str, ...] = field(
        default=("pick_can_tiny", "pick_can_tiny+0.4", "random"),
        metadata={
            "help": "who is judged: random, or a checkpoint's folder or name; +0.4 adds noise of "
            "that standard deviation to its actions"
        },
    )
    episodes: int = field(default=100, metadata={"help": "episodes of each policy and judge"})
    seed: int = field(default=40_000, metadata={"help": "episode i starts as with seed + i"})
    max_steps: int = field(default=100, metadata={"help": "longest episode"})
    still: float = field(
        default=STILL,
        metadata={
            "help": "m by which a hand may move a thing before it holds it for a success inside to "
            "be believed, where probe= reads the pictures"
        },
    )
    workers: int = field(
        default=0,
        metadata={
            "help": "processes, of a thread each, in the simulator and inside; 0: one per core"
        },
    )

    def __post_init__(self) -> None:
        if not self.policies or self.episodes < 1 or self.max_steps < 1:
            raise ValueError(
                "expected at least one policy, episodes and max_steps >= 1; got "
                f"{list(self.policies)}, {self.episodes} and {self.max_steps}"
            )
        if self.still <= 0:
            raise ValueError(f"expected still > 0, in m; got {self.still}")


def judge(
    make_env: MakeEnv, make_policies: Mapping[str, MakePolicy],
    identities: Mapping[str, dict[str, Any]], make_world: Callable[[], WorldModel],
    spec: DataSpec, probe: StateProbe | None, config: JudgeConfig, sampler: RolloutConfig,
    about: dict[str, Any], out: Path, on_progress: Callable[[int, str], None],
) -> dict[str, Any]:  # fmt: skip
    """Judge every policy twice and write ``result.json``; finished policies are not judged again,
    nor are parts of one.

    ``make_policies``: name -> (env) -> policy; ``make_world``: the model, whose spec is ``spec``;
    all picklable. ``identities``: what names each policy; ``about``: what names env, model and
    probe, a verdict of others is not taken for theirs.
    """
    env, rows = make_env(), []
    try:
        starts = [env.reset(seed=config.seed + i)[0] for i in range(config.episodes)]
        for k, (name, make_policy) in enumerate(make_policies.items()):
            folder = out / f"{k:02d}"
            trial = EvalConfig(config.episodes, config.seed, config.workers, config.max_steps, 0)
            real = evaluate(
                make_env, make_policy, trial, folder, about=identities[name],
                on_progress=lambda n, text, name=name: on_progress(n, f"{name}: {text}"),
            )  # fmt: skip
            lived = [e.success for e in real.episodes]
            practice = Practice(
                partial(policy_alone, make_env, make_policy), make_world, config.max_steps, sampler,
                config.seed, folder / "imagined",
            )  # fmt: skip
            dreamt = _judged_inside(
                practice, starts_from(starts, spec), spec, probe, config, about,
                lambda n, text, name=name: on_progress(n, f"{name}, imagined: {text}"),
            )  # fmt: skip
            rows.append({"policy": name, "real": lived, "imagined": dreamt})
    finally:
        env.close()
    how = {"seed": config.seed, "max_steps": config.max_steps, "sampler": asdict(sampler)}
    how["still"] = config.still
    result = {**about, **how, **summary(rows), "hardware": hardware()}
    write_json(out / "result.json", result)
    return result


def _judged_inside(
    practice: Practice, starts: Starts, spec: DataSpec, probe: StateProbe | None,
    config: JudgeConfig, about: dict[str, Any], on_progress: Callable[[int, str], None],
) -> list[bool]:  # fmt: skip
    """Whether a success is believed in each imagined episode. What it goes by is kept in
    ``imagined.json`` beside the practice's folder, so that another ``still`` needs no other
    episodes."""
    parts, folder = practice.folder, practice.folder.parent
    file, mark = folder / "imagined.json", parts / "identity.json"
    identity = {**about, "sampler": asdict(practice.sampler), "seed": practice.seed}
    identity |= {"max_steps": practice.max_steps, "starts": len(starts)}
    if file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        if before["identity"] == identity:
            on_progress(len(starts), "from before")
            return _believed(before, config.still)
    if mark.exists() and json.loads(mark.read_text(encoding="utf-8")) != identity:
        shutil.rmtree(parts)  # of another model, or of other episodes
    parts.mkdir(parents=True, exist_ok=True)
    write_json(mark, identity)
    heard: list[bool] = []

    def hear(success: bool) -> None:
        heard.append(success)
        on_progress(1, f"success {sum(heard) / len(heard):.3f}")

    episodes = practise(practice, starts, config.workers, hear)
    film = side_by_side(list(episodes[0].images.swapaxes(0, 1)))
    write_mp4(folder / "imagined.mp4", film, fps=spec.control_frequency)
    found = {
        "success": [e.success for e in episodes],
        "moved": [
            moved(probe, e.images) if probe is not None and e.success else 0.0 for e in episodes
        ],
    }
    write_json(file, {"identity": identity, **found})
    shutil.rmtree(parts)
    return _believed(found, config.still)


def _believed(found: dict[str, Any], still: float) -> list[bool]:
    return [won and far <= still for won, far in zip(found["success"], found["moved"], strict=True)]


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Table and figures; intervals redraw the episodes of every policy (paired) 1,000 times."""
    real = np.array([r["real"] for r in rows], float)  # (policies, episodes)
    judged = np.array([r["imagined"] for r in rows], float)
    n = real.shape[1]
    table = [
        {
            "policy": row["policy"], "episodes": n,
            "real": float(a.mean()), "real_wilson95": wilson(int(a.sum()), n),
            "imagined": float(b.mean()), "imagined_wilson95": wilson(int(b.sum()), n),
            "same_verdict": float((a == b).mean()),
        }
        for row, a, b in zip(rows, real, judged, strict=True)
    ]  # fmt: skip
    statistics: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "mean_absolute_gap": lambda a, b: float(np.abs(a - b).mean()),
    }
    if len(rows) > 2:
        statistics |= {
            "pearson": pearson, "spearman": spearman,
            "mean_maximum_rank_violation": mean_maximum_rank_violation,
        }  # fmt: skip
    rng, drawn = np.random.default_rng(0), {name: [] for name in statistics}
    for _ in range(DRAWS):
        pick = rng.integers(0, n, n)
        a, b = real[:, pick].mean(axis=1), judged[:, pick].mean(axis=1)
        for name, statistic in statistics.items():
            drawn[name].append(statistic(a, b))
    figures: dict[str, Any] = {"table": table}
    for name, statistic in statistics.items():
        low, high = np.nanquantile(drawn[name], [0.025, 0.975])
        value = statistic(real.mean(axis=1), judged.mean(axis=1))
        figures[name] = (value, float(low), float(high))
    return figures
