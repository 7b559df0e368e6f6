"""How fast an env is here, beside the one that a model imagines, and robosuite's."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import gymnasium


@dataclass(frozen=True)
class BenchEnvConfig:
    steps: int = field(default=1000, metadata={"help": "env steps to time"})
    robosuite_steps: int = field(
        default=60, metadata={"help": "steps of robosuite's PickPlaceCan, where it is installed"}
    )
    imagined: str = field(
        default="",
        metadata={"help": "a checkpoint, as pick_can_tiny: the env that it imagines beside this"},
    )
    num_envs: tuple[int, ...] = field(
        default=(32,), metadata={"help": "how many of those at once; a GPU likes 1024"}
    )
    imagined_steps: int = field(default=50, metadata={"help": "steps of all of them to time"})
    device: str = field(default="auto", metadata={"help": "where to imagine: auto, cpu or cuda"})


def bench_env(
    make_env: Callable[[], gymnasium.Env],
    config: BenchEnvConfig,
    on_progress: Callable[[int], None],
) -> dict[str, Any]:
    """Steps/s of physics, control and pictures in one process, beside robosuite's if it is here."""
    env = make_env()
    rate, distinct = _env_rate(env, config.steps, on_progress)
    result: dict[str, Any] = {
        "steps_per_s": rate, "distinct_frames": distinct, "steps": config.steps
    }  # fmt: skip
    env.close()
    for n in config.num_envs if config.imagined else ():
        imagined = _imagined_rate(config, n)
        result |= {
            f"imagined, {n} at once: steps_per_s": imagined,
            f"imagined, {n} at once: ratio": imagined / rate,
        }
    if importlib.util.find_spec("robosuite") is None:
        result["robosuite"] = "not installed: pip install 'worldmodel[robosuite]' to compare"
        return result
    theirs, moving = _robosuite_rate(config.robosuite_steps)
    if moving < 0.9:  # its renderer does nothing while numba compiles: fast, and wrong
        result["robosuite"] = (
            f"only {moving:.0%} of its frames changed (numba's cache was cold): run it again"
        )
        return result
    return result | {"robosuite_steps_per_s": theirs, "ratio": rate / theirs}


def _env_rate(
    env: gymnasium.Env, steps: int, on_progress: Callable[[int], None]
) -> tuple[float, float]:
    """Steps/s with random actions, and the share of frames that differ from the one before.

    A renderer that silently repeats old frames is fast: the second number would tell.
    """
    rng = np.random.default_rng(0)
    obs, _ = env.reset(seed=0)
    cameras = [name for name, value in obs.items() if np.ndim(value) == 3]
    spent, changed, seed = 0.0, 0, 0
    for _ in range(steps):
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        start = time.perf_counter()
        new, _, terminated, truncated, _ = env.step(action)
        spent += time.perf_counter() - start
        changed += any((new[c] != obs[c]).any() for c in cameras)
        obs = new
        on_progress(1)
        if terminated or truncated:
            seed += 1
            obs, _ = env.reset(seed=seed)
    return steps / spent, changed / steps


def _imagined_rate(config: BenchEnvConfig, num_envs: int) -> float:
    """Env steps/s of Imagined-v0, outcomes included, after ten steps to warm up."""
    from worldmodel.imagined_env import ImaginedVectorEnv

    env = ImaginedVectorEnv(num_envs, config.imagined, device=config.device)
    env.reset(seed=0)
    rng, start = np.random.default_rng(0), time.perf_counter()
    for step in range(10 + config.imagined_steps):
        if step == 10:
            start = time.perf_counter()
        env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))
    spent = time.perf_counter() - start
    env.close()
    return config.imagined_steps * num_envs / spent


def _robosuite_rate(steps: int) -> tuple[float, float]:
    """robosuite's PickPlaceCan with two cameras of 64 x 64 at 10 Hz: steps/s, distinct frames."""
    import robosuite  # pyright: ignore[reportMissingImports]

    env = robosuite.make(
        "PickPlaceCan", robots="Panda", has_renderer=False, has_offscreen_renderer=True,
        use_camera_obs=True, camera_names=["agentview", "robot0_eye_in_hand"],
        camera_heights=64, camera_widths=64, control_freq=10,
    )  # fmt: skip
    env.reset()
    rng, low_high = np.random.default_rng(0), env.action_spec
    for _ in range(3):
        env.step(rng.uniform(*low_high))
    spent, changed, before = 0.0, 0, np.zeros(0)
    for _ in range(steps):
        start = time.perf_counter()
        obs, *_ = env.step(rng.uniform(*low_high))
        spent += time.perf_counter() - start
        picture = obs["robot0_eye_in_hand_image"]
        changed += not np.array_equal(picture, before)
        before = picture
    env.close()
    return steps / spent, changed / steps
