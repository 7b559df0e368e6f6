"""Episodes from a policy in an env, in parallel, onto disk as a LeRobotDataset v3.

Episodes are written in shards of a few; a shard's table is renamed into place last, so a shard is
either there or not. Episode i depends on (seed, i) alone: not on the number of workers, and not on
where an earlier run of the same command was stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from worldmodel import lerobot
from worldmodel.dataset_writer import finish, shard_file, write_shard
from worldmodel.demonstrate import executor, run_episodes
from worldmodel.episode import Episode
from worldmodel.errors import RunError, UserError
from worldmodel.files import write_json
from worldmodel.pool import in_processes
from worldmodel.runs import usable_cores
from worldmodel.shards import SHARD_HELP, parse_shard
from worldmodel.spec import DataSpec, spec_of_env
from worldmodel.trials import Actor

#: attempt j at episode i runs with seed + i + j * RETRY, which any number up to 16 divides: it
#: is the same one of a suite's tasks again
RETRY = 720_720_000
ATTEMPTS = 20


@dataclass(frozen=True)
class CollectConfig:
    episodes: int = field(default=500, metadata={"help": "episodes to collect"})
    seed: int = field(default=1_000_000, metadata={"help": "episode i runs with seed + i"})
    workers: int = field(default=0, metadata={"help": "processes; 0: one per core"})
    keep: Literal["success", "all"] = field(
        default="success", metadata={"help": "success: a failed episode is tried again"}
    )
    action_noise: float = field(
        default=0.3,
        metadata={"help": "executed = wanted + noise of std U(0, this), drawn per episode"},
    )
    burst: float = field(
        default=0.35, metadata={"help": "chance of an episode with a push of a few steps"}
    )
    explore: float = field(
        default=0.0,
        metadata={
            "help": "share of exploratory episodes: failures, pushes, empty grasps, drops. They "
            "teach what follows from actions; no plan is learned from them"
        },
    )
    mistaken: float = field(
        default=0.5,
        metadata={
            "help": "share of the explorations in which the scripted expert errs about where "
            "things are; the others are disturbed in phases"
        },
    )
    teach: bool = field(
        default=True,
        metadata={"help": "false: no plan is learned from any of them, as from explorations"},
    )
    student: str = field(
        default="",
        metadata={
            "help": "a checkpoint that leads for 10 to 50 steps of every demonstration while the "
            "policy says what it would do, which is what is learned (DAgger): the way out of the "
            "student's own mistakes"
        },
    )
    linger: int = field(
        default=0,
        metadata={
            "help": "steps that an episode goes on once its task is done; in demonstrations what "
            "the policy does then is learned too. A model that has never seen what follows loses "
            "picture and success where it reads that a step late. Not every env can do it"
        },
    )
    side_by_side: int = field(
        default=1,
        metadata={
            "help": "episodes at once in each process, up to per_file: one call of a model's "
            "policy acts in all of them, in less time than one after another"
        },
    )
    per_file: int = field(default=10, metadata={"help": "episodes per file"})
    shard: str = field(default="", metadata={"help": SHARD_HELP})

    def __post_init__(self) -> None:
        parse_shard(self.shard)
        counts = self.episodes, self.side_by_side, self.per_file
        if min(counts) < 1 or min(self.workers, self.seed, self.linger) < 0:
            raise ValueError(
                "expected episodes, side_by_side and per_file >= 1, workers, seed and linger >= 0; "
                f"got {', '.join(map(str, counts))}, {self.workers}, {self.seed}, {self.linger}"
            )
        shares = self.burst, self.explore, self.mistaken
        if not (0 <= self.action_noise <= 2 and all(0 <= share <= 1 for share in shares)):
            raise ValueError(
                "expected action_noise in 0..2, burst, explore and mistaken in 0..1, got "
                f"{self.action_noise}, {self.burst}, {self.explore} and {self.mistaken}"
            )

    def explores(self, episode: int) -> bool:
        """Whether this episode is an exploration: they are spread evenly over the dataset."""
        return _spread(episode, self.explore)

    def errs(self, episode: int) -> bool:
        """Whether this episode is an exploration by a mistaken expert, spread as evenly."""
        return self.explores(episode) and _spread(int(episode * self.explore), self.mistaken)


def _spread(number: int, share: float) -> bool:
    """Of the numbers 0, 1, 2 … this share, evenly."""
    return int((number + 1) * share) > int(number * share)


def collect(
    make_env: Callable[[], Any], make_policy: Callable[[Any], Actor], config: CollectConfig,
    out: Path, on_progress: Callable[[int, str], None] | None = None,
    make_mistaken: Callable[[Any], Actor] | None = None,
    make_student: Callable[[Any], Actor] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Collect ``config.episodes`` episodes into ``out`` and return a summary of the dataset, or an
    empty one while this is a shard whose ``out`` others still work on.

    ``make_mistaken`` makes who acts in ``config.mistaken`` of the explorations (None: no such
    episodes), ``make_student`` whom ``config.student`` names. The factories must be picklable. Run
    again after a stop, it goes on; UserError if ``out`` holds data of another configuration,
    RunError if a policy never succeeds or the disk is full.
    """
    if make_mistaken is None:
        config = replace(config, mistaken=0.0)
    env = make_env()
    spec = spec_of_env(env)
    env.close()
    _claim(out, {"spec": spec.to_json(), "config": _named(config)})
    if (out / lerobot.INFO).exists():
        if on_progress:
            on_progress(config.episodes, "already collected")
        return lerobot.read_json(out / lerobot.SPEC)["summary"]
    shard = parse_shard(config.shard)
    files = range(-(-config.episodes // config.per_file))
    ours = [k for k in files if shard.has(k)]
    todo = [k for k in ours if not shard_file(out, k).exists()]
    if on_progress and len(todo) < len(ours):
        on_progress(sum(_size(config, k) for k in ours if k not in todo), "from before")
    workers = min(config.workers or usable_cores(), max(1, len(todo)))
    make = partial(_make, make_env, make_policy, make_mistaken, make_student, spec, config, out)
    for episodes, attempts in in_processes(make, _shard, todo, workers):
        if on_progress:
            on_progress(episodes, f"kept {episodes} of {attempts}")
    if shard.of > 1:  # the same command without shard= finishes
        return {}
    return finish(out, spec, list(files), asdict(config))


def share(config: CollectConfig) -> int:
    """How many of the episodes are in this shard."""
    shard, files = parse_shard(config.shard), range(-(-config.episodes // config.per_file))
    return sum(_size(config, k) for k in files if shard.has(k))


# -- in a worker ----------------------------------------------------------------------------------


class Crew(NamedTuple):
    """Who collects in one process."""

    envs: list[Any]  # for episodes side by side
    expert: Actor
    mistaken: Actor | None
    student: Actor | None
    spec: DataSpec
    config: CollectConfig


def crew(
    make_env: Callable[[], Any], make_policy: Callable[[Any], Actor], config: CollectConfig,
    spec: DataSpec, make_mistaken: Callable[[Any], Actor] | None = None,
    make_student: Callable[[Any], Actor] | None = None,
) -> Crew:  # fmt: skip
    """The crew that these make; see :func:`collect`."""
    envs = [make_env() for _ in range(min(config.side_by_side, config.per_file))]
    mistaken = make_mistaken(envs[0]) if make_mistaken else None
    student = make_student(envs[0]) if make_student else None
    config = config if mistaken else replace(config, mistaken=0.0)
    return Crew(envs, make_policy(envs[0]), mistaken, student, spec, config)


def gather(crew: Crew, number: int) -> tuple[list[Episode], list[bool], int]:
    """The episodes of file ``number``, of which of them plans may be learned, and how many were
    tried. RunError where a demonstration fails too often."""
    envs, expert, mistaken, student, spec, config = crew
    first = number * config.per_file
    todo = [(i, 0) for i in range(first, first + _size(config, number))]  # episode, attempt
    kept: dict[int, Episode] = {}
    attempts = 0
    while todo:
        errs, explores = config.errs(todo[0][0]), config.explores(todo[0][0])
        alike = [  # then another acts, or nobody leads
            pair for pair in todo
            if config.errs(pair[0]) == errs
            and (student is None or config.explores(pair[0]) == explores)
        ]  # fmt: skip
        now = alike[: len(envs)]
        seeds = [config.seed + i + j * RETRY for i, j in now]
        disturb = [
            executor(spec, seed, config, phases=config.explores(i) and not errs)
            for (i, _), seed in zip(now, seeds, strict=True)
        ]
        policy = mistaken if errs and mistaken else expert
        leads = None if explores else student
        episodes = run_episodes(
            envs[: len(now)], policy, spec, seeds, disturb, leads, linger=config.linger
        )
        todo = [pair for pair in todo if pair not in now]
        attempts += len(now)
        for (i, j), episode in zip(now, episodes, strict=True):
            if episode.succeeded or config.explores(i) or config.keep == "all":
                kept[i] = episode
            elif j + 1 < ATTEMPTS:
                todo.insert(0, (i, j + 1))
            else:
                raise RunError(
                    f"{ATTEMPTS} attempts at episode {i} failed; a policy that fails so often "
                    "needs keep=all"
                )
    episodes = [kept[i] for i in sorted(kept)]
    shown = [config.teach and not config.explores(i) for i in range(first, first + len(episodes))]
    return episodes, shown, attempts


def _make(
    make_env: Callable[[], Any], make_policy: Callable[[Any], Actor],
    make_mistaken: Callable[[Any], Actor] | None, make_student: Callable[[Any], Actor] | None,
    spec: DataSpec, config: CollectConfig, out: Path,
) -> tuple[Crew, Path]:  # fmt: skip
    return crew(make_env, make_policy, config, spec, make_mistaken, make_student), out


def _shard(made: tuple[Crew, Path], number: int) -> tuple[int, int]:
    """Collect and write one shard; returns episodes kept and episodes tried."""
    ours, out = made
    episodes, shown, attempts = gather(ours, number)
    first = number * ours.config.per_file
    write_shard(out, ours.spec, number, first, episodes, shown, attempts)
    return len(episodes), attempts


def _size(config: CollectConfig, shard: int) -> int:
    return min(config.per_file, config.episodes - shard * config.per_file)


# -- the folder -----------------------------------------------------------------------------------


def _named(config: CollectConfig) -> dict[str, Any]:
    """What decides the data, by the names that folders have for it."""
    values = asdict(replace(config, workers=0))
    del values["side_by_side"]
    values["shard"] = values.pop("per_file")  # its name when the first folders were written
    for name in ("teach", "student", "linger"):  # which they don't say
        if values[name] == getattr(CollectConfig, name):
            del values[name]
    return values


def _claim(out: Path, identity: dict[str, Any]) -> None:
    """Make ``out`` ours, or see that it is; UserError when it holds something else."""
    file = out / "collect.json"
    if file.exists():
        before, ours = lerobot.read_json(file), json.loads(json.dumps(identity))
        for part in ("config", "spec"):
            was, now = before.get(part, {}), ours[part]
            # a spec may have got further entries since; a config leaves out some as they are
            keys = was.keys() & now.keys() if part == "spec" else was.keys() | now.keys()
            for key in sorted(keys):
                if was.get(key) != now.get(key):
                    raise UserError(
                        f"{out} holds data of another configuration: {key} was {was.get(key)}, is "
                        f"{now.get(key)}. Choose another out=…, or delete that folder"
                    )
        return
    if (out / "meta").exists() or (out / "data").exists():
        raise UserError(f"{out} already holds a dataset; choose another out=…")
    write_json(file, identity)
