"""How fast things are here, beside what the machine could do: one function per table."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from worldmodel.dataset import Dataset
    from worldmodel.model import ModelConfig, WorldModel
    from worldmodel.objective import ObjectiveConfig, Segment
    from worldmodel.rollout import Imagination, RolloutConfig
    from worldmodel.spec import DataSpec
    from worldmodel.trials import Actor


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


@dataclass(frozen=True)
class BenchDataConfig:
    segment: int = field(default=16, metadata={"help": "T, env steps per window"})
    batch: int = field(default=64, metadata={"help": "windows per draw"})
    draws: int = field(default=500, metadata={"help": "how many draws to time"})


@dataclass(frozen=True)
class BenchRolloutConfig:
    steps: int = field(default=10_000, metadata={"help": "horizon of the long run, batch 1"})
    batches: tuple[int, ...] = field(default=(1, 32), metadata={"help": "batch sizes to time"})
    timed: int = field(default=50, metadata={"help": "steps timed for each batch size"})
    threads: int = field(default=0, metadata={"help": "CPU threads (0: torch's own choice)"})


def bench_data(
    dataset: Dataset, config: BenchDataConfig, on_progress: Callable[[int], None]
) -> dict[str, Any]:
    """Random windows/s in one process, and what this adds to its own memory.

    The arrays are memory-mapped: their pages belong to the operating system's cache, which gives
    them back when somebody needs the room, and are counted apart.
    """
    windows = dataset.windows(config.segment, 8, range(len(dataset)))
    rng = np.random.default_rng(0)
    windows.sample(config.batch, rng, 0.5)
    before, mapped = memory_mib("RssAnon"), memory_mib("RssFile")
    start = time.perf_counter()
    for _ in range(config.draws):
        windows.sample(config.batch, rng, 0.5)
        on_progress(config.batch)
    spent = time.perf_counter() - start
    return {
        "windows_per_s": config.draws * config.batch / spent, "steps_per_window": config.segment,
        "frames": len(dataset.stream("proprio")), "episodes": len(dataset),
        "images_mib": dataset.stream("images").nbytes / 2**20,
        "own_memory_added_mib": memory_mib("RssAnon") - before,
        "page_cache_added_mib": memory_mib("RssFile") - mapped,
    }  # fmt: skip


def bench_train(
    spec: DataSpec, model: ModelConfig, objective: ObjectiveConfig, config: BenchTrainConfig,
    on_progress: Callable[[int], None],
) -> dict[str, Any]:  # fmt: skip
    """Training throughput on random data of the right shapes, as a share of the matmul peak."""
    import torch

    from worldmodel.device import autocast, keep_freed_memory, pick_device
    from worldmodel.flops import matmul_rate, segment_tokens, training_flops
    from worldmodel.optim import OptimConfig
    from worldmodel.train import train_step
    from worldmodel.train_state import TrainState
    from worldmodel.transformer import parameter_count

    if config.threads:
        torch.set_num_threads(config.threads)
    keep_freed_memory()
    device = pick_device(config.device)
    state = TrainState(spec, model, OptimConfig(), 0, objective.name).to(device)
    context = autocast(device, config.precision)
    if config.compile:
        state.compile()
    T, batch = config.segment, random_segment(state.model, config.batch, config.segment)
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
    B = config.batch
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


def random_segment(model: WorldModel, batch: int, steps: int) -> Segment:
    """``batch`` segments of ``steps`` steps of the shapes that ``model`` learns from."""
    import torch

    from worldmodel.leaves import OUTCOMES
    from worldmodel.objective import Segment

    spec, B, T, H = model.spec, batch, steps, model.config.chunk
    g = torch.Generator().manual_seed(0)
    images = (B, T + 1, len(spec.cameras), *spec.image_size, 3)
    segment = Segment(
        torch.randint(0, 256, images, dtype=torch.uint8, generator=g),
        torch.randint(0, 256, (B, *images[2:]), dtype=torch.uint8, generator=g),
        torch.randn(B, spec.P, generator=g), torch.randn(B, T + 1, spec.P, generator=g),
        torch.ones(B, T, dtype=torch.bool), torch.rand(B, T, spec.A, generator=g),
        torch.ones(B, T, dtype=torch.bool),
        torch.rand(B, T, H, spec.A, generator=g), torch.ones(B, T, H, dtype=torch.bool),
        torch.zeros(B, T, len(OUTCOMES)),
    )  # fmt: skip
    return Segment(*(x.to(model.grid.device) for x in segment))


def random_world(model: WorldModel, batch: int, sampler: RolloutConfig) -> Imagination:
    """``batch`` worlds that begin with noise."""
    import torch

    from worldmodel.rollout import Imagination, generators_from

    shape = (batch, len(model.spec.cameras), *model.spec.image_size, 3)
    images = torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    proprio = model.proprio_scale.mean.cpu().expand(batch, -1)
    generators = generators_from(0, batch, model.grid.device)
    return Imagination(model, images, proprio, generators=generators, config=sampler)


def steps_ms(world: Imagination, steps: int) -> list[float]:
    """What each of so many imagined steps took."""
    import torch

    times, still = [], torch.zeros(world.batch, world.model.spec.A)
    for _ in range(steps):
        start = time.perf_counter()
        world.step(still)[0].cpu()
        times.append(1000 * (time.perf_counter() - start))
    return times


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


def bench_rollout(
    model: WorldModel, config: BenchRolloutConfig, sampler: RolloutConfig,
    on_progress: Callable[[int, str], None],
) -> tuple[dict[str, Any], list[float]]:  # fmt: skip
    """Imagined frames/s at each batch size; then one long run, whose cost must not grow.

    Returns the figures, and the median milliseconds of a step in every hundred of the long run.
    """
    import torch

    from worldmodel.device import uses_bf16
    from worldmodel.flops import imagination_flops, matmul_rate

    if config.threads:
        torch.set_num_threads(config.threads)
    device = model.grid.device
    dtype = torch.bfloat16 if uses_bf16(device, sampler.precision) else torch.float32
    peak = matmul_rate(dtype, device.type)

    result: dict[str, Any] = {
        "flow_steps": sampler.flow_steps, "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(), "window": sampler.window or model.config.window,
        "matmul_gflops": peak / 1e9,
    }  # fmt: skip
    for batch in config.batches:
        world = random_world(model, batch, sampler)
        steps_ms(world, 5)
        ms = statistics.median(steps_ms(world, config.timed))
        flops = imagination_flops(model, sampler.flow_steps, result["window"]) * batch
        result[f"batch {batch}: frames_per_s"] = 1000 * batch / ms
        result[f"batch {batch}: ms_per_step"] = ms
        result[f"batch {batch}: utilisation"] = flops / (ms / 1000) / peak
        on_progress(config.timed, f"batch {batch}: {1000 * batch / ms:.0f} frames/s")
    world, curve, memory = random_world(model, 1, sampler), [], []
    for done in range(0, config.steps, 100):
        curve.append(statistics.median(steps_ms(world, min(100, config.steps - done))))
        memory.append(memory_mib())
        on_progress(min(100, config.steps - done), f"step {done + 100}: {curve[-1]:.1f} ms")
    tenth = max(1, len(curve) // 10)  # a busy machine is slow at times: tenths, not single marks
    result |= {
        "long: steps": config.steps,
        "long: ms_per_step at the start": statistics.median(curve[:tenth]),
        "long: ms_per_step at the end": statistics.median(curve[-tenth:]),
        "long: time ratio": statistics.median(curve[-tenth:]) / statistics.median(curve[:tenth]),
        "long: MiB at the start": memory[0], "long: MiB at the end": memory[-1],
        "long: memory ratio": memory[-1] / memory[0],
    }  # fmt: skip
    return result, curve


def memory_mib(kind: str = "VmRSS") -> float:
    """Memory of this process as Linux counts it (VmRSS, RssAnon, RssFile); NaN elsewhere."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    lines = (line.split() for line in status.read_text(encoding="utf-8").splitlines())
    return next(int(words[1]) / 1024 for words in lines if words[0] == f"{kind}:")
