"""Training, from top to bottom: windows of episodes -> objective's loss -> EMA weights on disk."""

from __future__ import annotations

import dataclasses
import json
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel import checkpoint
from worldmodel.batches import Robot, next_batch
from worldmodel.device import autocast, keep_freed_memory, pick_device
from worldmodel.distributed import ALONE, Ranks, Sharding, whole
from worldmodel.errors import RunError, UserError
from worldmodel.flops import body_flops, matmul_rate, segment_tokens, training_flops
from worldmodel.log import MetricLog, Progress
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.objective import (
    ObjectiveConfig,
    Segment,
    body_loss,
    motion_loss,
    self_flow_loss,
)
from worldmodel.optim import OptimConfig, ema_decay, ema_update, learning_rate
from worldmodel.spec import DataSpec
from worldmodel.train_state import Nets, TrainState
from worldmodel.validation import validate

if TYPE_CHECKING:
    from worldmodel.windows import Windows


@dataclass(frozen=True)
class TrainConfig:
    steps: int = field(default=7_000, metadata={"help": "updates in all"})
    batch: int = field(default=16, metadata={"help": "B, segments per update"})
    segment: int = field(default=4, metadata={"help": "T, env steps per segment"})
    demonstrations: float = field(
        default=0.65,
        metadata={"help": "share of the segments from demonstrations, the rest from explorations"},
    )
    rehearse: float = field(
        default=0.5,
        metadata={
            "help": "share of the segments whose pictures are imagined, so that long rollouts "
            "stay true"
        },
    )
    rehearse_after: float = field(
        default=0.35, metadata={"help": "share of the updates before that: first learn to imagine"}
    )
    rehearse_steps: int = field(
        default=32, metadata={"help": "env steps imagined on end for that, at most"}
    )
    robot_samples: int = field(
        default=128,
        metadata={
            "help": "single frames, and stretches of 16 steps without frames, per update for the "
            "robot's own picture and motion, which cost little and need many"
        },
    )
    seed: int = field(default=0, metadata={"help": "of weights, windows and noise"})
    device: str = field(default="auto", metadata={"help": "auto, cpu or cuda"})
    precision: Literal["auto", "fp32", "bf16"] = field(
        default="auto", metadata={"help": "auto: bf16 autocast where the processor has it"}
    )
    threads: int = field(default=0, metadata={"help": "CPU threads (0: torch's own choice)"})
    sharding: Sharding = field(
        default="ddp",
        metadata={
            "help": "under torchrun; ddp: every process has all weights. fsdp: each has a part of "
            "them, of the teacher and of the optimiser, for models that no GPU has room for"
        },
    )
    own_noise: bool = field(
        default=False,
        metadata={
            "help": "under torchrun, each process draws noise for its own rows alone: faster from "
            "some GPUs on (docs/scaling.md), and no longer the numbers of one process"
        },
    )
    compile: bool = field(
        default=False, metadata={"help": "compile each block: a minute at the start, then faster"}
    )
    save_minutes: float = field(default=3.0, metadata={"help": "time between saved states"})
    keep_every: int = field(
        default=0,
        metadata={"help": "updates between checkpoints that are kept, in checkpoints/; 0: none"},
    )
    tensorboard: bool = field(
        default=False, metadata={"help": "log to TensorBoard too; needs the extra [log]"}
    )
    log_every: int = field(default=20, metadata={"help": "updates between lines of the log"})
    validate_every: int = field(default=500, metadata={"help": "updates between validations"})
    validate_windows: int = field(default=256, metadata={"help": "held-out windows per validation"})


@dataclass(frozen=True)
class TrainResult:
    folder: Path
    steps: int
    hours: float
    metrics: dict[str, float]


def losses(
    nets: Nets, batch: Segment, objective: ObjectiveConfig, generator: torch.Generator,
    dreamt: Tensor | None, robot: Robot | None, ranks: Ranks,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """What an update makes smaller (scalar), and what to log of it."""
    loss, metrics = self_flow_loss(
        nets.model, nets.head, nets.teacher, batch, objective, generator, dreamt, ranks
    )
    if robot is not None:
        pictured = body_loss(nets.model, robot.images, robot.pose)
        loss = loss + objective.weight_body * pictured
        if len(robot.action):  # there is none of videos without actions
            moved = motion_loss(nets.model, robot.proprio, robot.action)
            loss = loss + objective.weight_change * moved
            metrics["loss_motion"] = moved.detach()
    return loss, metrics


def train_step(
    state: TrainState, batch: Segment, objective: ObjectiveConfig, steps: int,
    context: AbstractContextManager, dreamt: Tensor | None = None, robot: Robot | None = None,
) -> dict[str, float]:  # fmt: skip
    """One update. A loss or gradient that is not finite stops it before anything changes.

    ``dreamt`` uint8 (R, T, C, h, w, 3) are the imagined pictures of the first R segments,
    ``robot`` is what it learns of the robot besides.
    """
    config = state.optim_config
    lr = learning_rate(state.step, steps, config)
    with context:
        loss, metrics = state.update(
            losses, batch, objective, state.generator, dreamt, robot, state.ranks
        )
    values = state.ranks.mean(metrics | {"loss": loss.detach()})
    for optimizer in state.optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    if np.isfinite(values["loss"]):
        loss.backward()
        parameters = [*state.model.parameters(), *state.head.parameters()]
        norm = float(whole(nn.utils.clip_grad_norm_(parameters, config.clip)))
    else:
        norm = float("nan")
    if not np.isfinite(norm):
        bad = {k: v for k, v in values.items() if not np.isfinite(v)} or {"gradient norm": norm}
        raise RunError(
            f"update {state.step}: not finite: {bad}; nothing was updated. Resume from the last "
            "saved state with a smaller optim.lr, or look at the data with `worldmodel data check`"
        )
    for optimizer in state.optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = lr
        with context:  # in which the products of an update are, too
            optimizer.step()
    ema_update(state.teacher, state.model, ema_decay(state.step, config.ema))
    state.step += 1
    return values | {"grad_norm": norm, "lr": lr}


def train(
    windows: Windows, held_out: Windows, spec: DataSpec, model: ModelConfig,
    objective: ObjectiveConfig, optim: OptimConfig, config: TrainConfig, out: Path,
    resume: bool = False, about: dict[str, Any] | None = None, initial: WorldModel | None = None,
    ranks: Ranks = ALONE,
) -> TrainResult:  # fmt: skip
    """Train ``model`` on ``windows`` and write the EMA weights to ``out/checkpoint``.

    ``resume`` goes on from ``out/state.safetensors`` where there is one, bit for bit as if it had
    never stopped (on a CPU). ``about`` is copied into the checkpoint. ``initial`` gives the first
    weights, whose spec and config then are ``spec`` and ``model``. Ctrl-C saves first. With other
    ``ranks`` each calls this, does its part of every batch, and the first writes.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    keep_freed_memory()
    ranks.divides("batch", config.batch)
    ranks.divides("robot_samples", config.robot_samples)
    device = ranks.device or pick_device(config.device)
    context = autocast(device, config.precision)
    state = TrainState(spec, model, optim, config.seed, objective.name)
    if initial is not None:
        state.model.load_state_dict(initial.state_dict())
        state.teacher.load_state_dict(initial.state_dict())
        for mine in (state.model, state.teacher):
            mine.trust()  # what is trained on is no longer what the doubt was fitted on
    ranks = dataclasses.replace(ranks, own_noise=config.own_noise)
    state.to(device, ranks, config.sharding)
    as_json = {
        "model": dataclasses.asdict(model), "objective": dataclasses.asdict(objective),
        "optim": dataclasses.asdict(optim),
        "train": {
            k: getattr(config, k)
            for k in (
                "steps", "batch", "segment", "demonstrations", "rehearse", "rehearse_after",
                "rehearse_steps", "robot_samples", "seed",
            )
        },
    }  # fmt: skip
    fingerprint = json.loads(json.dumps(as_json))
    file = out / checkpoint.STATE
    if resume and file.exists():
        state.load(file, fingerprint)
    elif file.exists() and not resume:
        raise UserError(f"{file} exists: go on with resume=true, or give another out=…")
    if config.compile:
        state.compile()
    log = MetricLog(out, state.step or None, config.tensorboard) if ranks.first else None
    picks = np.linspace(0, len(held_out) - 1, min(config.validate_windows, len(held_out)))
    validation = [
        Segment.of(held_out.get(part.astype(np.int64)), device)
        for part in np.array_split(picks, max(1, len(picks) // config.batch))
    ]
    flops = training_flops(state.model, config.segment, objective) * config.batch
    flops += 3 * config.robot_samples * body_flops(state.model)
    tokens = segment_tokens(state.model, config.segment, objective) * config.batch
    with context:
        fast = torch.is_autocast_enabled(device.type)
    peak = ranks.world * matmul_rate(torch.bfloat16 if fast else torch.float32, device.type)

    def save_weights(where: Path) -> None:
        trained = {"step": state.step, "hours": state.seconds / 3600, **fingerprint}
        result = state.result()
        if ranks.first:
            checkpoint.save(where, state.teacher, {**(about or {}), "training": trained}, result)

    def save() -> None:
        state.save(file, fingerprint)
        save_weights(out / "checkpoint")

    metrics: dict[str, float] = {}
    broken = False
    rows: list[dict[str, float]] = []
    saved = mark = time.monotonic()
    bar = Progress("train", config.steps, done=state.step, unit="updates", quiet=not ranks.first)
    with bar, ranks.stops() as asked_to_stop:
        try:
            while state.step < config.steps:
                batch, dreamt, robot = next_batch(state, windows, config, context)
                row = train_step(state, batch, objective, config.steps, context, dreamt, robot)
                rows.append(row)
                now = time.monotonic()
                if state.step % config.log_every == 0 or state.step == config.steps:
                    speed = len(rows) / (now - mark)
                    state.seconds += now - mark
                    metrics = {k: float(np.mean([r[k] for r in rows])) for k in rows[0]}
                    metrics |= {
                        "tokens_per_s": tokens * speed, "utilisation": flops * speed / peak,
                        "hours": state.seconds / 3600,
                    }  # fmt: skip
                    if state.step % config.validate_every == 0 or state.step == config.steps:
                        with torch.no_grad():
                            metrics |= state.nets(
                                lambda nets: validate(
                                    nets.teacher, nets.head, validation, objective, context
                                )
                            )
                    if log is not None:
                        log.write(state.step, metrics)
                    rows, mark = [], time.monotonic()
                if config.keep_every and state.step % config.keep_every == 0:
                    save_weights(out / "checkpoints" / f"{state.step:06d}")
                bar.advance(1, text=_status(metrics))
                due = ranks.first and now - saved > 60 * config.save_minutes
                stop, due = ranks.any(asked_to_stop(), due)
                if stop:
                    raise KeyboardInterrupt
                if due:
                    save()
                    saved = time.monotonic()
        except RuntimeError as error:
            if ranks.world == 1:
                raise
            broken = True
            raise RunError(
                f"process {ranks.rank} of {ranks.world} can't go on: {error}\n  most likely another"
                " one ended; see what that one says, and resume with as many processes as there are"
            ) from error
        finally:
            # also on Ctrl-C and errors: an update is all or nothing, so the state is good; but
            # parts of it that went with another process can't be put together
            if not (broken and state.sharded):
                save()
    return TrainResult(out, state.step, state.seconds / 3600, metrics)


def _status(metrics: dict[str, float]) -> str:
    if not metrics:
        return ""
    names = ("loss_plan", "loss_next", "cosine_next", "val_plan_mae")
    parts = [f"{n.removeprefix('loss_')} {metrics[n]:.3f}" for n in names if n in metrics]
    return " ".join([*parts, f"{metrics['tokens_per_s'] / 1000:.1f}k tok/s"])
