"""Episodes acted out to compare with: frames, actions, and the simulator's own truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from worldmodel.collect import CollectConfig, executor
from worldmodel.errors import UserError
from worldmodel.spec import DataSpec
from worldmodel.trials import Actor


@dataclass(frozen=True)
class Recording:
    """One episode of T steps: T + 1 observations, T executed actions."""

    images: np.ndarray  # uint8 (T+1, C, h, w, 3)
    proprio: np.ndarray  # float32 (T+1, P)
    action: np.ndarray  # float32 (T, A)
    truth: dict[str, np.ndarray]  # name -> positions (T+1, 3) [m] or flags (T+1,) bool
    seed: int

    def __len__(self) -> int:
        return len(self.action)


def record(
    env: Any, policy: Actor, spec: DataSpec, seed: int, explore: bool | None = None,
    steps: int | None = None,
) -> Recording:  # fmt: skip
    """Act out the episode with this seed, or its first ``steps``.

    The policy's actions are executed as they are, or, with ``explore``, as `worldmodel collect`
    does in an exploration (True) or a disturbed demonstration (False).
    """
    obs, _ = env.reset(seed=seed)
    policy.reset([seed])
    execute = None if explore is None else executor(spec, seed, CollectConfig(), explore)
    observations, truths, actions, over = [obs], [truth_of(env)], [], False
    while not over:
        action = policy.act({key: np.asarray(value)[None] for key, value in obs.items()})[0]
        action = np.clip(action, -1.0, 1.0).astype(np.float32)
        if execute is not None:
            action = execute(action, len(actions))
        obs, _, terminated, truncated, _ = env.step(action)
        observations.append(obs)
        truths.append(truth_of(env))
        actions.append(action)
        over = terminated or truncated or len(actions) == steps
    return Recording(*_stacked(spec, observations), np.stack(actions), _columns(truths), seed)


def replay(env: Any, spec: DataSpec, seed: int, actions: np.ndarray) -> Recording:
    """What these actions (T, A) lead to from the start with this seed; they may outlast success."""
    obs, _ = env.reset(seed=seed)
    observations, truths = [obs], [truth_of(env)]
    for action in actions:
        obs, *_ = env.unwrapped.step(action)
        observations.append(obs)
        truths.append(truth_of(env))
    return Recording(*_stacked(spec, observations), np.asarray(actions), _columns(truths), seed)


def truth_of(env: Any) -> dict[str, np.ndarray]:
    """What the env's ``truth()`` says; nothing for an env without one."""
    inner = env.unwrapped
    return {k: np.asarray(v) for k, v in inner.truth().items()} if hasattr(inner, "truth") else {}


def check_truth(recordings: list[Recording]) -> None:
    """UserError where an env doesn't tell its state."""
    if not recordings[0].truth:
        raise UserError(
            "the env has no method truth() -> {name: position (3,) in m, or flag}; without it only "
            "pictures and proprio can be compared"
        )


def _stacked(spec: DataSpec, observations: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    images = np.stack([np.stack([o[c] for c in spec.cameras]) for o in observations])
    return images, np.stack([o["proprio"] for o in observations]).astype(np.float32)


def _columns(truths: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([t[name] for t in truths]) for name in truths[0]}
