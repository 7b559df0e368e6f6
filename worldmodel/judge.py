"""Policies judged in the simulator and inside the model, from the same starts.

Inside the model the outcome leaf says who succeeded, and, where it is asked, a state probe whether
that is to be believed (worldmodel.steady). What counts is whether both judges put the policies into
the same order, and how far their success rates are apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.evaluate import EvalConfig, evaluate
from worldmodel.files import write_json
from worldmodel.imagined_episodes import play
from worldmodel.metrics import mean_maximum_rank_violation, pearson, spearman, wilson
from worldmodel.model import WorldModel
from worldmodel.probe import StateProbe
from worldmodel.rollout import RolloutConfig
from worldmodel.runs import hardware
from worldmodel.starts import starts_from
from worldmodel.steady import STILL, moved
from worldmodel.trials import Actor, MakeEnv, MakePolicy
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
    workers: int = field(default=0, metadata={"help": "processes for the simulator; 0: all cores"})

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
    identities: Mapping[str, dict[str, Any]], model: WorldModel, probe: StateProbe | None,
    config: JudgeConfig, sampler: RolloutConfig, about: dict[str, Any], out: Path,
    on_progress: Callable[[int, str], None],
) -> dict[str, Any]:  # fmt: skip
    """Judge every policy twice and write ``result.json``; finished policies are not judged again.

    ``make_policies``: name -> (env) -> policy, picklable; ``identities``: what names each of them;
    ``about``: what names env, model and probe, a verdict of others is not taken for theirs.
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
            dreamt = _judged_inside(
                make_policy(env), starts, model, probe, config, sampler, about, folder,
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
    policy: Actor, starts: Sequence[dict[str, np.ndarray]], model: WorldModel,
    probe: StateProbe | None, config: JudgeConfig, sampler: RolloutConfig, about: dict[str, Any],
    folder: Path, on_progress: Callable[[int, str], None],
) -> list[bool]:  # fmt: skip
    """Whether a success is believed in each imagined episode. What it goes by is kept in
    ``imagined.json``, so that another ``still`` needs no other episodes."""
    file = folder / "imagined.json"
    identity = {**about, "sampler": asdict(sampler), "seed": config.seed}
    identity["max_steps"] = config.max_steps
    if file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        if before["identity"] == identity and len(before.get("moved", ())) == len(starts):
            on_progress(len(starts), "from before")
            return _believed(before, config.still)
    found = {"success": [False] * len(starts), "moved": [0.0] * len(starts)}
    inside = play(
        policy, starts_from(starts, model.spec), model, config.max_steps, sampler, config.seed
    )
    for done, (i, episode) in enumerate(inside, 1):
        found["success"][i] = episode.success
        if probe is not None and episode.success:
            found["moved"][i] = moved(probe, episode.images)
        if i == 0:
            film = side_by_side(list(episode.images.swapaxes(0, 1)))
            write_mp4(folder / "imagined.mp4", film, fps=model.spec.control_frequency)
        on_progress(1, f"success {sum(_believed(found, config.still)) / done:.3f}")
    write_json(file, {"identity": identity, **found})
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
