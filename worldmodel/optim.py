"""Optimiser, learning-rate schedule and the moving average that is both teacher and result."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import nn

from worldmodel.muon import Muon


@dataclass(frozen=True)
class OptimConfig:
    lr: float = field(default=1e-3, metadata={"help": "peak learning rate, of AdamW and of Muon"})
    lr_final: float = field(default=0.02, metadata={"help": "last learning rate over the peak"})
    warmup: int = field(default=100, metadata={"help": "updates of linear warm-up"})
    weight_decay: float = field(default=0.05, metadata={"help": "of matrices; vectors have none"})
    muon: bool = field(
        default=False,
        metadata={"help": "Muon for the matrices of the trunk's blocks, AdamW for all else"},
    )
    beta2: float = field(default=0.95, metadata={"help": "AdamW's second decay; the first is 0.9"})
    clip: float = field(default=1.0, metadata={"help": "largest gradient norm"})
    ema: float = field(
        default=0.999, metadata={"help": "decay of the moving average, reached late"}
    )


def learning_rate(step: int, steps: int, config: OptimConfig) -> float:
    """Linear warm-up, then a cosine from ``lr`` to ``lr * lr_final`` at the last step."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, steps - config.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return config.lr * (config.lr_final + (1 - config.lr_final) * cosine)


def ema_decay(step: int, largest: float) -> float:
    """min(largest, (1 + i) / (10 + i)): without a warm-up a short run's teacher is noise."""
    return min(largest, (1 + step) / (10 + step))


@torch.no_grad()
def ema_update(average: nn.Module, model: nn.Module, decay: float) -> None:
    """average <- decay average + (1 - decay) model, for all parameters in one call."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def optimizers(
    modules: list[nn.Module], blocks: nn.Module, config: OptimConfig
) -> dict[str, torch.optim.Optimizer]:
    """AdamW for all of ``modules``; or Muon for the matrices of the trunk's ``blocks``."""
    if not config.muon:
        return {"adamw": adamw(modules, config)}
    matrices = [p for p in blocks.parameters() if p.ndim == 2]
    return {
        "adamw": adamw(modules, config, matrices),
        "muon": Muon(matrices, config.lr, config.weight_decay),
    }


def adamw(
    modules: list[nn.Module], config: OptimConfig, without: Collection[nn.Parameter] = ()
) -> torch.optim.AdamW:
    """AdamW whose weight decay leaves biases, norms and embeddings alone."""
    others, matrices, vectors = {id(p) for p in without}, [], []
    for module in modules:
        for name, p in module.named_parameters():
            if id(p) not in others:
                (matrices if p.ndim >= 2 and "place" not in name else vectors).append(p)
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, config.beta2), fused=True)
