"""Who feeds docs/world.py: simulators in processes of their own, and policies of all qualities.

The simulators collect demonstrations, explorations and mistakes, as `worldmodel collect` does; then
they act out what policies did inside the model, and what they do outside it. The policies come from
small trainings of plans alone, whose checkpoints act while they go on. Episodes become files of
:func:`write` in a folder, the feed.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import shutil
import time
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodel import checkpoint
from worldmodel.collect import CollectConfig, Crew, gather
from worldmodel.dataset import STREAMS, outcomes
from worldmodel.demonstrate import executor, run_episodes
from worldmodel.env_config import EnvConfig, make_env
from worldmodel.episode import Episode
from worldmodel.objective import ObjectiveConfig
from worldmodel.optim import OptimConfig
from worldmodel.policy_config import PolicyConfig, make_policy
from worldmodel.pool import end_with_parent
from worldmodel.shipped import find_checkpoint
from worldmodel.spec import DataSpec
from worldmodel.train import TrainConfig, train
from worldmodel.windows import EpisodeInfo, Windows

ENV = EnvConfig("worldmodel/PickCan-v0", options={"pose": "mixed", "reward": "dense"})
FIRST_SEED = 20_000_000
TAUGHT = CollectConfig(seed=FIRST_SEED)  # for the policies
LINGER = 12  # env steps after a success, scripted
MIXED = CollectConfig(explore=0.6, mistaken=0.667, seed=FIRST_SEED + 1_000_000, linger=LINGER)
ACTED = CollectConfig(
    episodes=12, per_file=12, side_by_side=12,
    keep="all", teach=False, action_noise=0.0, burst=0.0, linger=LINGER,
)  # fmt: skip
DREAM = 60  # env steps that a policy acts inside
NOISE = (0.0, 0.0, 0.0, 0.1, 0.15, 0.2)  # on actions, drawn from these
PLANS = ObjectiveConfig(name="flow", next_ratio=0.0, plans=4, cut=1.0)


# -- simulators -----------------------------------------------------------------------------------


def begin_simulator() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    import threading

    threading.Thread(target=end_with_parent, daemon=True).start()


_envs: list[Any] = []


def envs(count: int) -> list[Any]:
    """So many of this process's envs."""
    while len(_envs) < count:
        _envs.append(make_env(ENV))
    return _envs[:count]


def collect(feed: Path, spec: DataSpec, config: CollectConfig, number: int, who: PolicyConfig):
    """File ``number`` of what `worldmodel collect` would collect."""
    some = envs(min(config.side_by_side, config.per_file))
    mistaken = None
    if who.name == "scripted" and config.explore:
        mistaken = make_policy(dataclasses.replace(who, mistaken=True), some[0])
    crew = Crew(some, make_policy(who, some[0]), mistaken, None, spec, config)
    episodes, shown, _ = gather(crew, number)
    write(feed / f"{config.seed}-{number:05d}.npz", spec, episodes, shown)


def act_out(feed: Path, spec: DataSpec, seeds: list[int], actions: np.ndarray) -> None:
    """What really follows from ``actions`` (N, T, A) in the episodes of these seeds."""
    disturb = [executor(spec, seed, ACTED, phases=False) for seed in seeds]
    episodes = run_episodes(
        envs(len(seeds)),
        Recorded(actions),
        spec,
        seeds,
        disturb,
        longest=actions.shape[1],
        linger=actions.shape[1],
    )
    write(feed / f"{seeds[0]}.npz", spec, episodes, [False] * len(episodes))


class Recorded:
    """Acts as recorded."""

    def __init__(self, actions: np.ndarray) -> None:
        self._actions, self._n = actions, -1

    def reset(self, seeds: Any, mask: np.ndarray | None = None) -> None:
        self._n = -1

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        self._n += 1
        return self._actions[:, min(self._n, self._actions.shape[1] - 1)]


def first_seen(seeds: list[int]) -> list[dict[str, np.ndarray]]:
    (env,) = envs(1)
    return [env.reset(seed=seed)[0] for seed in seeds]


def write(file: Path, spec: DataSpec, episodes: list[Episode], shown: list[bool]) -> None:
    """One entry per frame, as in worldmodel.dataset; where there is no action the last stands."""

    def longer(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x, x[-1:]])

    streams = {
        "images": [np.stack([e.images[c] for c in spec.cameras], axis=1) for e in episodes],
        "proprio": [e.proprio for e in episodes],
        "action": [longer(e.action) for e in episodes],
        "label": [longer(e.label) for e in episodes],
        "outcome": [outcomes(e.success, e.reward, e.terminated) for e in episodes],
    }
    arrays = {name: np.concatenate(parts) for name, parts in streams.items()}
    arrays["length"] = np.array([len(e) for e in episodes])
    arrays["known"] = np.array([e.known for e in episodes])
    arrays["shown"], arrays["success"] = np.array(shown), np.array([e.succeeded for e in episodes])
    hidden = file.with_suffix(".part")
    with hidden.open("wb") as out:
        np.savez(out, **arrays)  # pyright: ignore[reportArgumentType]
    hidden.rename(file)


# -- who feeds ------------------------------------------------------------------------------------


def supply(args: argparse.Namespace, out: Path, feed: Path, spec: DataSpec) -> None:
    """Let simulators fill ``feed`` until ``out/stop`` is there."""
    begin_simulator()
    context = multiprocessing.get_context("spawn")
    expert = PolicyConfig()
    mixed = dataclasses.replace(MIXED, episodes=args.episodes)
    few = dataclasses.replace(TAUGHT, episodes=max(args.taught))
    with ProcessPoolExecutor(args.workers, context, initializer=begin_simulator) as pool:

        def all_of(config: CollectConfig, where: Path) -> list[Future]:
            files = range(-(-config.episodes // config.per_file))
            return [pool.submit(collect, where, spec, config, k, expert) for k in files]

        taught = [] if args.policies else all_of(few, out / "taught")
        rest = all_of(mixed, feed)
        finish(taught)
        learner = context.Process(target=learn_policies, args=(args, out, spec), daemon=True)
        if not args.policies:
            learner.start()
        for file in (out / "taught").glob("*.npz"):
            shutil.copy(file, feed)
        finish(rest)
        (out / "begin").touch()
        rng, pending, seed = np.random.default_rng(0), [], FIRST_SEED + 2_000_000
        while not (out / "stop").exists():
            who, world = someone(rng, out, args), out / "latest"
            if not args.policies and learner.exitcode:
                raise SystemExit(f"the training of policies ended with {learner.exitcode}")
            if not (world / "config.json").exists():
                time.sleep(1)
                continue
            seeds = list(range(seed, seed + args.together))
            for part, actions in inside(who, world, spec, seeds, pool):
                pending.append(pool.submit(act_out, feed, spec, part, actions))
            seed += args.together
            there = dataclasses.replace(who, device="cpu")
            for _ in range(max(1, args.together // 48)):
                acted = dataclasses.replace(ACTED, seed=seed)
                pending.append(pool.submit(collect, feed, spec, acted, 0, there))
                seed += acted.episodes
            while len([p for p in pending if not p.done()]) > 2 * args.workers:
                time.sleep(0.2)
            over = {p for p in pending if p.done()}
            finish(over)
            pending = [p for p in pending if p not in over]
        finish(pending)


def finish(futures: Collection[Future]) -> None:
    """Wait for them; raises what went wrong there."""
    for future in wait(futures).done:
        future.result()


def someone(rng: np.random.Generator, out: Path, args: argparse.Namespace) -> PolicyConfig:
    """One of the policies that there are by now, or that of ``--init``, with noise or without."""
    folder = Path(args.policies or out / "policies")
    made = [p.parent for p in sorted(folder.glob("**/checkpoints/*/config.json"))]
    path = rng.choice([str(p) for p in [*made, find_checkpoint(args.init)]])
    noise = float(rng.choice(NOISE))
    return PolicyConfig(name="checkpoint", path=path, noise=noise, device=args.device)


def inside(
    who: PolicyConfig, world: Path, spec: DataSpec, seeds: list[int], pool: ProcessPoolExecutor
) -> Iterator[tuple[list[int], np.ndarray]]:
    """(some of the seeds, actions (n, DREAM, A)) that ``who`` chose inside the model."""
    parts = [seeds[i : i + 12] for i in range(0, len(seeds), 12)]
    seen = [obs for part in pool.map(first_seen, parts) for obs in part]
    first = {name: np.stack([obs[name] for obs in seen]) for name in seen[0]}
    policy = make_policy(dataclasses.replace(who, inside=str(world)), envs(1)[0])
    policy.reset(seeds)
    actions = np.stack([policy.act(first) for _ in range(DREAM)], axis=1)
    for i in range(0, len(seeds), 12):
        yield seeds[i : i + 12], actions[i : i + 12]


def learn_policies(args: argparse.Namespace, out: Path, spec: DataSpec) -> None:
    """Plans alone, from few demonstrations; checkpoints on the way are the policies."""
    begin_simulator()
    files = sorted((out / "taught").glob("*.npz"))
    arrays, infos = joined([load(file) for file in files])
    config = TrainConfig(
        steps=args.policy_updates, batch=64, segment=1, rehearse=0.0, robot_samples=0,
        device=args.device, keep_every=max(1, args.policy_updates // 8), validate_every=10**6,
        validate_windows=8, threads=1,
    )  # fmt: skip
    size = checkpoint.load(find_checkpoint(args.init)).model.config
    for count in args.taught:
        windows, where = (
            Windows(arrays, infos[:count], 1, size.chunk),
            out / "policies" / str(count),
        )
        train(windows, windows, spec, size, PLANS, OptimConfig(), config, where)


def load(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as arrays:
        return dict(arrays)


def joined(
    chunks: list[dict[str, np.ndarray]],
) -> tuple[dict[str, np.ndarray], list[EpisodeInfo]]:
    """Streams and episodes of several files as one."""
    arrays = {k: np.concatenate([c[k] for c in chunks]) for k in STREAMS}
    length, shown, success, known = (
        np.concatenate([c[k] for c in chunks]) for k in ("length", "shown", "success", "known")
    )
    start = np.cumsum(length + 1) - length - 1
    infos = [
        EpisodeInfo(i, int(n), int(s), bool(won), 0, "", bool(show), bool(acted))
        for i, (n, s, won, show, acted) in enumerate(
            zip(length, start, success, shown, known, strict=True)
        )
    ]
    return arrays, infos
