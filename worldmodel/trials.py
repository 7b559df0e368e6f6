"""Whole episodes, each decided by its own seed, one after another or in worker processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from worldmodel.errors import RunError, UserError
from worldmodel.pool import in_processes
from worldmodel.spec import frequency_of, succeeded, task_of
from worldmodel.video import side_by_side, write_mp4

MakeEnv = Callable[[], Any]  # () -> gymnasium.Env


class Actor(Protocol):
    """What is needed of a policy here; ``policies.base.Policy`` describes it."""

    def reset(self, seeds: Sequence[int], mask: np.ndarray | None = None) -> None: ...

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray: ...


MakePolicy = Callable[[Any], Actor]  # (env) -> policy

Record = tuple[bool, bool]  # film this episode if it fails, if it succeeds


@dataclass(frozen=True)
class Task:
    """Who acts where. Both factories must be picklable when several workers run."""

    make_env: MakeEnv
    make_policy: MakePolicy
    policy_name: str  # for messages
    seed: int  # episode i runs with seed + i
    max_steps: int | None  # end episodes here; None: the env's own limit
    out: Path  # videos go to out/videos


@dataclass(frozen=True)
class EpisodeResult:
    episode: int
    seed: int
    success: bool
    length: int  # env steps
    reward: float  # sum over the episode
    outcome: str  # the env's verdict
    act_ms: tuple[float, ...]  # time of every act() [ms]
    video: str | None = None  # path within the run's folder
    task: str = ""


def policy_alone(make_env: MakeEnv, make_policy: MakePolicy) -> Actor:
    """A policy that acts elsewhere than in an env, of which it only learns the spaces."""
    env = make_env()
    try:
        return make_policy(env)
    finally:
        env.close()


def run_episodes(
    task: Task, episodes: Sequence[int], workers: int, record: Callable[[], Record]
) -> Iterator[EpisodeResult]:
    """Yield results as they come, not in order. ``record`` is asked at the start of an episode."""
    if workers == 1:
        yield from _run_here(task, episodes, record)
        return
    jobs = ((i, record()) for i in episodes)
    yield from in_processes(partial(_make, task), _work, jobs, workers)


def _run_here(
    task: Task, episodes: Sequence[int], record: Callable[[], Record]
) -> Iterator[EpisodeResult]:
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else None
    _, env, policy = _make(task)
    try:
        for i in episodes:
            yield run_episode(env, policy, task, i, record())
    finally:
        env.close()
        if torch and threads:
            torch.set_num_threads(threads)


def _make(task: Task) -> tuple[Task, Any, Actor]:
    env = task.make_env()
    policy = task.make_policy(env)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)  # so that results don't depend on the number of workers
    return task, env, policy


def _work(made: tuple[Task, Any, Actor], job: tuple[int, Record]) -> EpisodeResult:
    (task, env, policy), (episode, record) = made, job
    return run_episode(env, policy, task, episode, record)


def run_episode(env: Any, policy: Actor, task: Task, episode: int, record: Record) -> EpisodeResult:
    """One episode from its own seed.

    Raises UserError for an action of the wrong shape, RunError for one that is not finite.
    """
    seed = task.seed + episode
    try:
        obs, info = env.reset(seed=seed)
    except RuntimeError as error:  # mostly no rendering backend; the env says what to install
        raise RunError(str(error)) from error
    policy.reset([seed])
    frames, act_ms, total, step, ended = [], [], 0.0, 0, False
    while not ended:
        if any(record):
            frames.append(_frame(env, obs))
        batch = {key: np.asarray(value)[None] for key, value in obs.items()}
        _check_observation(batch, step, seed)
        start = time.perf_counter()
        action = np.asarray(policy.act(batch))
        act_ms.append(round(1000 * (time.perf_counter() - start), 3))
        _check_action(action, env.action_space.shape, task.policy_name, step, seed)
        obs, reward, terminated, truncated, info = env.step(action[0])
        total += float(reward)
        step += 1
        ended = terminated or truncated or step == task.max_steps
    success = succeeded(info)
    outcome = str(info.get("outcome", "success" if success else "failure"))
    video = None
    if record[success] and frames[0]:
        frames.append(_frame(env, obs))
        video = f"videos/{'success' if success else 'failure'}_{episode:04d}.mp4"
        write_mp4(task.out / video, _film(frames), fps=_frames_per_second(env))
    return EpisodeResult(
        episode, seed, success, step, total, outcome, tuple(act_ms), video, task_of(env)
    )


def _frame(env: Any, obs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What a video shows of this step: env.render() where the env renders, else its cameras.

    Nothing when there are none of either.
    """
    if env.render_mode == "rgb_array":
        return [env.render()]
    return [np.asarray(v) for v in obs.values() if v.ndim == 3 and v.dtype == np.uint8]


def _film(frames: list[list[np.ndarray]]) -> np.ndarray:
    return side_by_side([np.stack(camera) for camera in zip(*frames, strict=True)])


def _frames_per_second(env: Any) -> float:
    return frequency_of(env)


def _check_observation(obs: Mapping[str, np.ndarray], step: int, seed: int) -> None:
    for name, value in obs.items():
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            raise RunError(
                f"the env returned {_worst(value)} in observation '{name}' at step {step} of the "
                f"episode with seed {seed}: its state has diverged"
            )


def _check_action(
    action: np.ndarray, shape: tuple[int, ...], policy: str, step: int, seed: int
) -> None:
    if action.shape != (1, *shape):
        raise UserError(
            f"policy '{policy}' returned actions of shape {action.shape}, the env expects "
            f"{(1, *shape)}: policy and env don't belong together"
        )
    if not np.isfinite(action).all():
        raise RunError(
            f"policy '{policy}' returned {_worst(action)} at step {step} of the episode with seed "
            f"{seed}; expected finite actions. Check the checkpoint with another seed, or retrain"
        )


def _worst(value: np.ndarray) -> str:
    return "NaN" if np.isnan(value).any() else "an infinite value"
