"""How fast things are here, beside what the machine could do: one function per table."""

from __future__ import annotations

import copy
import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import gymnasium

    from worldmodel.model import ModelConfig
    from worldmodel.objective import ObjectiveConfig
    from worldmodel.spec import DataSpec
    from worldmodel.trials import Actor


@dataclass(frozen=True)
class BenchEnvConfig:
    steps: int = field(default=1000, metadata={"help": "env steps to time"})
    robosuite_steps: int = field(
        default=60, metadata={"help": "steps of robosuite's PickPlaceCan, where it is installed"}
    )


@dataclass(frozen=True)
class BenchTrainConfig:
    steps: int = field(default=8, metadata={"help": "updates to time, after two to warm up"})
    batch: int = field(default=16, metadata={"help": "B, segments per update"})
    segment: int = field(default=4, metadata={"help": "T, env steps per segment"})
    threads: int = field(default=0, metadata={"help": "CPU threads (0: torch's own choice)"})
    device: str = field(default="auto", metadata={"help": "auto, cpu or cuda"})
    precision: str = field(default="auto", metadata={"help": "auto, fp32 or bf16"})
    compile: bool = field(default=False, metadata={"help": "compile each block"})


@dataclass(frozen=True)
class BenchPolicyConfig:
    plans: int = field(default=60, metadata={"help": "plans to time, after five to warm up"})
    threads: int = field(default=1, metadata={"help": "CPU threads"})


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
    if importlib.util.find_spec("robosuite") is None:
        result["robosuite"] = "not installed: pip install 'worldmodel[robosuite]' to compare"
        return result
    theirs = _robosuite_rate(config.robosuite_steps)
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


def _robosuite_rate(steps: int) -> float:
    """robosuite's PickPlaceCan with two cameras of 64 x 64 at 10 Hz, in this process."""
    import robosuite

    env = robosuite.make(
        "PickPlaceCan", robots="Panda", has_renderer=False, has_offscreen_renderer=True,
        use_camera_obs=True, camera_names=["agentview", "robot0_eye_in_hand"],
        camera_heights=64, camera_widths=64, control_freq=10,
    )  # fmt: skip
    env.reset()
    rng, low_high = np.random.default_rng(0), env.action_spec
    for _ in range(3):
        env.step(rng.uniform(*low_high))
    start = time.perf_counter()
    for _ in range(steps):
        env.step(rng.uniform(*low_high))
    rate = steps / (time.perf_counter() - start)
    env.close()
    return rate


def bench_train(
    spec: DataSpec, model: ModelConfig, objective: ObjectiveConfig, config: BenchTrainConfig,
    on_progress: Callable[[int], None],
) -> dict[str, Any]:  # fmt: skip
    """Training throughput on random data of the right shapes, as a share of the matmul peak."""
    import torch

    from worldmodel.device import autocast, pick_device
    from worldmodel.flops import matmul_rate, segment_tokens, training_flops
    from worldmodel.model import OUTCOMES
    from worldmodel.objective import Segment
    from worldmodel.optim import OptimConfig
    from worldmodel.train import TrainState, train_step
    from worldmodel.transformer import parameter_count

    if config.threads:
        torch.set_num_threads(config.threads)
    device = pick_device(config.device)
    state = TrainState(spec, model, OptimConfig(), seed=0).to(device)
    context = autocast(device, config.precision)
    if config.compile:
        state.compile()
    B, T, H, (h, w) = config.batch, config.segment, model.chunk, spec.image_size
    g = torch.Generator().manual_seed(0)
    images = (B, T + 1, len(spec.cameras), h, w, 3)
    batch = Segment(
        torch.randint(0, 256, images, dtype=torch.uint8, generator=g),
        torch.randn(B, T + 1, spec.P, generator=g), torch.rand(B, T, spec.A, generator=g),
        torch.rand(B, T, H, spec.A, generator=g), torch.ones(B, T, H, dtype=torch.bool),
        torch.zeros(B, T, len(OUTCOMES)),
    )  # fmt: skip
    batch = Segment(*(x.to(device) for x in batch))
    with context:
        dtype = torch.bfloat16 if torch.is_autocast_enabled(device.type) else torch.float32
    seconds, peaks = [], [matmul_rate(dtype, device.type)]
    for i in range(config.steps + 2):
        start = time.perf_counter()
        train_step(state, batch, objective, 1000, context)
        if i >= 2:
            seconds.append(time.perf_counter() - start)
        on_progress(1)
    peaks.append(matmul_rate(dtype, device.type))
    step = statistics.median(seconds)
    flops = training_flops(state.model, T, objective) * B
    return {
        "model": model.name, "parameters": parameter_count(state.model),
        "objective": objective.name, "device": str(device), "threads": torch.get_num_threads(),
        "dtype": str(dtype).removeprefix("torch."), "compile": config.compile,
        "seconds_per_update": step,
        "tokens_per_s": segment_tokens(state.model, T, objective) * B / step,
        "steps_per_s": B * T / step,
        "model_gflops": flops / step / 1e9, "matmul_gflops": max(peaks) / 1e9,
        "utilisation": flops / step / max(peaks),
    }  # fmt: skip


def bench_policy(
    policy: Actor, observation: dict[str, np.ndarray], config: BenchPolicyConfig,
    on_progress: Callable[[int], None],
) -> dict[str, Any]:  # fmt: skip
    """Latency [ms] of a fresh plan for one env: reset, then the first act."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    batch = {key: np.asarray(value)[None] for key, value in observation.items()}
    times = []
    for i in range(config.plans + 5):
        policy.reset([i])
        start = time.perf_counter()
        policy.act(copy.copy(batch))
        if i >= 5:
            times.append(1000 * (time.perf_counter() - start))
        on_progress(1)
    torch.set_num_threads(before)
    return {
        "plan_ms_median": statistics.median(times), "plan_ms_p95": float(np.quantile(times, 0.95)),
        "plans": config.plans, "threads": config.threads,
    }  # fmt: skip
