"""Held-out losses, and the error of sampled plans."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel.inference import sample_plan
from worldmodel.model import WorldModel
from worldmodel.objective import ObjectiveConfig, Segment, self_flow_loss


@torch.no_grad()
def validate(
    model: WorldModel, head: nn.Module, batches: list[Segment], objective: ObjectiveConfig,
    context: AbstractContextManager,
) -> dict[str, float]:  # fmt: skip
    """Held-out losses of the EMA weights with the same noise every time, and the error of plans.

    ``val_plan_mae`` is the mean absolute error [env units] of plans sampled in 4 steps from one
    observation, over the actions that exist.
    """
    plain = dataclasses.replace(objective, name="dts", cut=1.0, noisy_context=0.0)
    rows, generator = [], torch.Generator().manual_seed(0)
    for batch in batches:
        with context:
            _, metrics = self_flow_loss(model, head, None, batch, plain, generator)
            plan = sample_first_plan(model, batch, generator)
        wrong = (plan - batch.plan[:, 0]).abs().mean(-1)
        mask = batch.plan_mask[:, 0]
        row = {f"val_{k}": float(v) for k, v in metrics.items()}
        rows.append(row | {"val_plan_mae": float((wrong * mask).sum() / mask.sum().clamp(min=1))})
    return {k: float(np.mean([row[k] for row in rows])) for k in rows[0]}


def sample_first_plan(
    model: WorldModel, batch: Segment, generator: torch.Generator, steps: int = 4
) -> Tensor:
    """Plans (B, H, A) from the first observation of every segment, denoised in ``steps``."""
    B, H, A = len(batch.action), model.config.chunk, batch.action.shape[-1]
    noise = torch.randn(B, H, A, generator=generator).to(batch.action.device)
    return sample_plan(model, *model.observe(batch.images[:, 0], batch.proprio[:, 0]), noise, steps)
