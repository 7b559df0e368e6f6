"""Episodes acted out to compare with: frames, actions, and the simulator's own truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from worldmodel.collect import CollectConfig
from worldmodel.demonstrate import executor
from worldmodel.errors import UserError
from worldmodel.spec import DataSpec, attribute, succeeded
from worldmodel.trials import Actor


@dataclass(frozen=True)
class Recording:
    """One episode of T steps: T + 1 observations, T executed actions."""

    images: np.ndarray  # uint8 (T+1, C, h, w, 3)
    proprio: np.ndarray  # float32 (T+1, P)
    action: np.ndarray  # float32 (T, A)
    truth: dict[str, np.ndarray]  # name -> positions (T+1, 3) [m] or flags (T+1,) bool
    seed: int
    success: np.ndarray  # bool (T,) on arriving at o_{n+1}, as the next two
    terminated: np.ndarray  # bool (T,)
    reward: np.ndarray  # float32 (T,)
    outcome: str  # the env's verdict on the whole

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
    tape, over = _Tape(env, spec, seed, obs), False
    while not over:
        action = policy.act({key: np.asarray(value)[None] for key, value in obs.items()})[0]
        action = np.clip(action, -1.0, 1.0).astype(np.float32)
        if execute is not None:
            action = execute(action, len(tape))
        obs, _, terminated, truncated, _ = step = env.step(action)
        tape.add(action, step)
        over = terminated or truncated or len(tape) == steps
    return tape.recording()


def replay(env: Any, spec: DataSpec, seed: int, actions: np.ndarray) -> Recording:
    """What these actions (T, A) lead to from the start with this seed; they may outlast success."""
    obs, _ = env.reset(seed=seed)
    tape = _Tape(env, spec, seed, obs)
    for action in actions:
        tape.add(action, env.step(action))
    return tape.recording()


class _Tape:
    """Takes down an episode step by step."""

    def __init__(self, env: Any, spec: DataSpec, seed: int, obs: dict[str, np.ndarray]) -> None:
        self.env, self.spec, self.seed = env, spec, seed
        self.observations, self.truths = [obs], [truth_of(env)]
        self.rows: list[tuple[np.ndarray, bool, bool, float]] = []
        self.outcome = ""

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, action: np.ndarray, step: tuple[Any, ...]) -> None:
        """``step`` is what env.step(action) gave."""
        obs, reward, terminated, _, info = step
        self.observations.append(obs)
        self.truths.append(truth_of(self.env))
        success = succeeded(info)
        self.rows.append((action, success, bool(terminated), float(reward)))
        self.outcome = str(info.get("outcome", "success" if success else "failure"))

    def recording(self) -> Recording:
        action, success, terminated, reward = zip(*self.rows, strict=True)
        images = [np.stack([o[c] for c in self.spec.cameras]) for o in self.observations]
        return Recording(
            np.stack(images), np.stack([o["proprio"] for o in self.observations]).astype("f4"),
            np.stack(action), {k: np.stack([t[k] for t in self.truths]) for k in self.truths[0]},
            self.seed, np.array(success), np.array(terminated), np.array(reward, np.float32),
            self.outcome,
        )  # fmt: skip


def truth_of(env: Any) -> dict[str, np.ndarray]:
    """What the env's ``truth()`` says; nothing for an env without one."""
    truth = attribute(env, "truth")
    return {k: np.asarray(v) for k, v in truth().items()} if truth else {}


def check_truth(recordings: list[Recording]) -> None:
    """UserError where an env doesn't tell its state."""
    if not recordings[0].truth:
        raise UserError(
            "the env has no method truth() -> {name: position (3,) in m, or flag}; without it only "
            "pictures and proprio can be compared"
        )
