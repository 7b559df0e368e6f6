"""How often does a policy succeed: whole episodes in parallel, each decided by its own seed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.errors import UserError
from worldmodel.files import write_json, write_text
from worldmodel.metrics import wilson
from worldmodel.runs import claim, hardware, usable_cores
from worldmodel.shards import SHARD_HELP, parse_shard
from worldmodel.trials import EpisodeResult, MakeEnv, MakePolicy, Record, Task, run_episodes

EPISODES = "episodes.jsonl"
OnProgress = Callable[[int, str], None]  # (episodes more, what to say)


@dataclass(frozen=True)
class EvalConfig:
    episodes: int = field(default=100, metadata={"help": "how many episodes"})
    seed: int = field(default=10_000, metadata={"help": "episode i runs with seed + i"})
    workers: int = field(
        default=0, metadata={"help": "processes; 0: one per core. Results don't depend on it"}
    )
    max_steps: int | None = field(
        default=None, metadata={"help": "end episodes here (none: the env's own limit)"}
    )
    videos: int = field(default=3, metadata={"help": "videos of the first successes and failures"})
    shard: str = field(default="", metadata={"help": SHARD_HELP})

    def __post_init__(self) -> None:
        parse_shard(self.shard)
        if self.episodes < 1 or self.workers < 0 or self.seed < 0 or self.videos < 0:
            raise ValueError(
                "expected episodes >= 1, seed, workers and videos >= 0; got "
                f"episodes={self.episodes}, seed={self.seed}, workers={self.workers}, "
                f"videos={self.videos}"
            )
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {self.max_steps}")


@dataclass(frozen=True)
class EvalResult:
    summary: dict[str, Any]  # what result.json holds
    episodes: tuple[EpisodeResult, ...]

    @property
    def success_rate(self) -> float:
        return self.summary["success_rate"]


def evaluate(
    make_env: MakeEnv,
    make_policy: MakePolicy,
    config: EvalConfig,
    out: Path,
    *,
    about: Mapping[str, Any] | None = None,
    on_progress: OnProgress | None = None,
) -> EvalResult:
    """Run ``config.episodes`` episodes and write ``episodes.jsonl``, ``result.json`` and videos.

    Both factories must be picklable when several workers run. ``about`` names the env, the policy
    and whatever else identifies them; it goes into the result. An ``out`` that holds an unfinished
    evaluation of the same thing is continued; UserError if it holds one of something else. With
    ``config.shard`` its part alone is run, its summary returned, and no result written: that is
    for a run without it, which finds what all shards did.
    """
    about = {"env": "", "policy": "", **(about or {})}
    shard = parse_shard(config.shard)
    if config.episodes < shard.of:
        raise UserError(f"shard: {shard.of} shards of {config.episodes} episodes: use fewer")
    log = out / (EPISODES if shard.of == 1 else f"episodes-{shard.number}-of-{shard.of}.jsonl")
    ours = [i for i in range(config.episodes) if shard.has(i)]
    identity = {**about, "seed": config.seed, "max_steps": config.max_steps}
    done = {r.episode: r for r in _continue(out, log, identity) if r.episode in ours}
    todo = [i for i in ours if i not in done]
    if on_progress and done:
        on_progress(len(done), _so_far(done))
    workers = min(config.workers or usable_cores(), max(len(todo), 1))
    name = about["policy"] or "the policy"
    task = Task(make_env, make_policy, name, config.seed, config.max_steps, out)

    def record() -> Record:
        # Episodes start in order and this is asked at their start, so the first few of each kind
        # are recorded whatever the number of workers.
        filmed = Counter(r.success for r in done.values() if r.video)
        return filmed[False] < config.videos, filmed[True] < config.videos

    for result in run_episodes(task, todo, workers, record):
        done[result.episode] = result
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        if on_progress:
            on_progress(1, _so_far(done))
    episodes = tuple(done[i] for i in sorted(done))
    if shard.of > 1:
        return EvalResult(summarise(episodes, config, about), episodes)
    _put_together(episodes, out)
    episodes = _drop_surplus_videos(episodes, config.videos, out)
    summary = summarise(episodes, config, about)
    write_json(out / "result.json", summary)
    return EvalResult(summary, episodes)


def summarise(
    episodes: tuple[EpisodeResult, ...], config: EvalConfig, about: Mapping[str, Any]
) -> dict[str, Any]:
    """The figures of ``result.json``."""
    wins = [e for e in episodes if e.success]
    act_ms = np.concatenate([e.act_ms for e in episodes])
    low, high = wilson(len(wins), len(episodes))
    return {
        **about,
        "seed": config.seed,
        "episodes": len(episodes),
        "successes": len(wins),
        "success_rate": len(wins) / len(episodes),
        "wilson95": [round(low, 4), round(high, 4)],
        "mean_steps_to_success": float(np.mean([e.length for e in wins])) if wins else None,
        "mean_length": float(np.mean([e.length for e in episodes])),
        "mean_return": float(np.mean([e.reward for e in episodes])),
        "outcomes": dict(Counter(e.outcome for e in episodes).most_common()),
        "tasks": by_task(episodes),
        "act_ms_median": round(float(np.median(act_ms)), 3),
        "act_ms_p95": round(float(np.percentile(act_ms, 95)), 3),
        "max_steps": config.max_steps,
        "hardware": hardware(),
    }


def by_task(episodes: tuple[EpisodeResult, ...]) -> dict[str, dict[str, Any]]:
    """The same per task, in alphabetical order; empty where there is but one."""
    names = sorted({e.task for e in episodes})
    found = {}
    for name in names if len(names) > 1 else ():
        mine = [e for e in episodes if e.task == name]
        wins = [e for e in mine if e.success]
        low, high = wilson(len(wins), len(mine))
        found[name] = {
            "episodes": len(mine), "successes": len(wins), "success_rate": len(wins) / len(mine),
            "wilson95": [round(low, 4), round(high, 4)],
            "mean_steps_to_success": float(np.mean([e.length for e in wins])) if wins else None,
            "outcomes": dict(Counter(e.outcome for e in mine).most_common()),
        }  # fmt: skip
    return found


def _so_far(done: Mapping[int, EpisodeResult]) -> str:
    wins = sum(r.success for r in done.values())
    return f"success {wins / len(done):.3f} ({wins}/{len(done)})"


# -- the folder -----------------------------------------------------------------------------------


def _continue(out: Path, log: Path, identity: dict[str, Any]) -> list[EpisodeResult]:
    """What an earlier run of the same evaluation finished, and what shards of it did; UserError if
    it was another one. ``log`` is ours to mend."""
    out.mkdir(parents=True, exist_ok=True)
    if not claim(out / "evaluation.json", identity, "evaluation"):
        log.unlink(missing_ok=True)
        return []
    return [r for file in sorted(out.glob("episodes*.jsonl")) for r in _read(file, file == log)]


def _read(log: Path, mend: bool) -> list[EpisodeResult]:
    results, lines = [], log.read_text(encoding="utf-8").splitlines()
    for line in lines:
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            break  # the line that a kill cut off: that episode runs again
        results.append(EpisodeResult(**{**values, "act_ms": tuple(values["act_ms"])}))
    if mend and len(results) < len(lines):
        log.write_text("".join(line + "\n" for line in lines[: len(results)]), encoding="utf-8")
    return results


def _put_together(episodes: tuple[EpisodeResult, ...], out: Path) -> None:
    """One log of all episodes in the place of the shards'."""
    parts = list(out.glob("episodes-*-of-*.jsonl"))
    if parts:
        text = "".join(json.dumps(asdict(episode)) + "\n" for episode in episodes)
        write_text(out / EPISODES, text)
    for part in parts:
        part.unlink()


def _drop_surplus_videos(
    episodes: tuple[EpisodeResult, ...], videos: int, out: Path
) -> tuple[EpisodeResult, ...]:
    """Keep the first ``videos`` of each kind: workers may have recorded a few more."""
    kept, counts = [], Counter[bool]()
    for e in episodes:
        if e.video is not None:
            counts[e.success] += 1
            if counts[e.success] > videos:
                (out / e.video).unlink(missing_ok=True)
                e = EpisodeResult(**{**asdict(e), "video": None})
        kept.append(e)
    return tuple(kept)
