"""How the cost of training, planning and imagining grows with the batch and the window."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from worldmodel.bench import memory_mib, random_segment, random_world, steps_ms
from worldmodel.device import autocast, pick_device
from worldmodel.flops import imagination_flops, matmul_rate, plan_flops, training_flops
from worldmodel.inference import sample_plan
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.optim import OptimConfig
from worldmodel.rollout import RolloutConfig
from worldmodel.train import train_step
from worldmodel.train_state import TrainState
from worldmodel.transformer import parameter_count

if TYPE_CHECKING:
    from worldmodel.objective import ObjectiveConfig
    from worldmodel.spec import DataSpec

COLUMNS = ("what", "batch", "W", "ms", "per second", "utilisation", "MiB")
WARM = 3  # repetitions before those that are timed: libraries set up, graphs are captured


@dataclass(frozen=True)
class GrowthConfig:
    batches: tuple[int, ...] = field(
        default=(1, 8, 32), metadata={"help": "batch sizes: segments, observations, worlds"}
    )
    windows: tuple[int, ...] = field(
        default=(1, 4), metadata={"help": "W, steps remembered while imagining"}
    )
    segment: int = field(default=4, metadata={"help": "T, env steps of a training's segment"})
    plan_steps: int = field(default=4, metadata={"help": "K of a plan"})
    flow_steps: int = field(default=2, metadata={"help": "K of an imagined step"})
    timed: int = field(default=8, metadata={"help": "repetitions timed of each"})
    threads: int = field(default=0, metadata={"help": "CPU threads (0: torch's own choice)"})
    device: str = field(default="auto", metadata={"help": "auto, cpu or cuda"})
    precision: str = field(default="auto", metadata={"help": "auto, fp32 or bf16"})

    def __post_init__(self) -> None:
        counts = *self.batches, *self.windows, self.segment, self.timed
        if not self.batches or not self.windows or min(counts) < 1:
            raise ValueError(
                "expected batches, windows, segment and timed of at least 1; got "
                f"{list(self.batches)}, {list(self.windows)}, {self.segment} and {self.timed}"
            )

    @property
    def rows(self) -> int:
        """How many the table has."""
        return len(self.batches) * (2 + len(self.windows))


def bench_growth(
    spec: DataSpec, model: ModelConfig, objective: ObjectiveConfig, config: GrowthConfig,
    on_progress: Callable[[int, str], None],
) -> dict[str, Any]:  # fmt: skip
    """An untrained model of this size: what an update, a plan and an imagined step cost.

    ``rows`` are COLUMNS: W is empty where it plays no part; per second are env steps learned from,
    plans, or imagined steps; utilisation is of the matmul rate; memory is the most that was in use
    (on a GPU: allocated; on a CPU: of the whole process).
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = pick_device(config.device)
    model = replace(model, window=max(model.window, *config.windows))
    state = TrainState(spec, model, OptimConfig(), 0, objective.name).to(device)
    context = autocast(device, config.precision)
    with context:
        dtype = torch.bfloat16 if torch.is_autocast_enabled(device.type) else torch.float32
    peak = max(matmul_rate(dtype, device.type) for _ in range(2))
    rows: list[tuple[Any, ...]] = []
    for what, batch, window, count, flops, run in _jobs(state, objective, config, context):
        _forget_peak(device)
        ms = statistics.median(run())
        per_second = 1000 * count / ms
        rows.append((what, batch, window, ms, per_second, flops / (ms / 1000) / peak,
                     _peak_mib(device)))  # fmt: skip
        on_progress(1, f"{what}, batch {batch}: {ms:.1f} ms")
    return {
        "model": model.name, "parameters": parameter_count(state.model),
        "objective": objective.name, "device": str(device), "threads": torch.get_num_threads(),
        "dtype": str(dtype).removeprefix("torch."), "matmul_gflops": peak / 1e9,
        "columns": COLUMNS, "rows": rows,
    }  # fmt: skip


def _jobs(
    state: TrainState, objective: ObjectiveConfig, config: GrowthConfig, context: Any
) -> Iterator[tuple[str, int, int | str, int, int, Callable[[], list[float]]]]:
    """(what, batch, W, what is counted, FLOPs, milliseconds of some repetitions)."""
    model, T = state.model, config.segment
    device = model.grid.device
    for B in config.batches:
        batch = random_segment(model, B, T)

        def update(batch=batch) -> object:
            return train_step(state, batch, objective, 10**6, context)

        flops = B * training_flops(model, T, objective)
        yield "update", B, "", B * T, flops, lambda run=update: _timed(run, config.timed, device)
    model.eval()
    for B in config.batches:
        flops = B * plan_flops(model, config.plan_steps)

        def plan(B=B) -> object:
            with context:
                return _plan(model, B, config.plan_steps)

        yield "plan", B, "", B, flops, lambda run=plan: _timed(run, config.timed, device)
    for B in config.batches:
        for W in config.windows:
            sampler = RolloutConfig(
                flow_steps=config.flow_steps,
                window=W,
                precision=config.precision,  # pyright: ignore
            )

            def imagine(B=B, sampler=sampler, W=W) -> list[float]:
                world = random_world(model, B, sampler)
                steps_ms(world, WARM + 2 * W)  # every slot of the ring, and again
                return steps_ms(world, config.timed)

            flops = B * imagination_flops(model, config.flow_steps, W)
            yield "imagined step", B, W, B, flops, imagine


@torch.no_grad()
def _plan(model: WorldModel, batch: int, flow_steps: int) -> torch.Tensor:
    """Fresh plans for noise, as a policy makes them."""
    spec, device, chunk = model.spec, model.grid.device, model.config.chunk
    images = torch.zeros(
        batch, len(spec.cameras), *spec.image_size, 3, dtype=torch.uint8, device=device
    )
    seen = model.observe(images, torch.zeros(batch, spec.P, device=device))
    noise = torch.randn(batch, chunk, spec.A, device=device)
    return sample_plan(model, *seen, noise, flow_steps)


def _timed(run: Callable[[], object], repetitions: int, device: torch.device) -> list[float]:
    times = []
    for i in range(WARM + repetitions):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if i >= WARM:
            times.append(1000 * (time.perf_counter() - start))
    return times


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif Path("/proc/self/clear_refs").exists():  # Linux counts the peak from here on
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return memory_mib("VmHWM")
