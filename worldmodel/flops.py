"""Model FLOPs, counted from the shapes, and the machine's own matmul rate to compare them with."""

from __future__ import annotations

import time

import torch

from worldmodel.body import Body
from worldmodel.model import WorldModel
from worldmodel.objective import ObjectiveConfig, next_count
from worldmodel.painter import Painter
from worldmodel.representation import feature_layers


def stem_flops(model: WorldModel) -> int:
    """Forward FLOPs of the convolutional stem for one observation (all cameras)."""
    h, w = model.spec.image_size
    total = 0
    for convolution in model.embed_obs.stem.convolutions:
        h, w = h // 2, w // 2
        total += 2 * convolution.get_parameter("weight").numel() * h * w
    return total * len(model.spec.cameras)


def _stages_flops(part: Painter | Body) -> int:
    """Forward FLOPs from a grid of cells to the pictures of one observation (all cameras)."""
    (h, w), total = part.grid, 0
    for stage in part.stages:
        for name, weight in stage.named_parameters():
            if name.startswith("enlarge"):
                total += 2 * h * w * weight.numel()
            else:
                total += 2 * 4 * h * w * weight.numel()
        h, w = 2 * h, 2 * w
    return total + 2 * h * w * part.read.weight.numel()


def painter_flops(model: WorldModel) -> int:
    """Forward FLOPs of the painter for one observation (all cameras)."""
    return len(model.spec.cameras) * _stages_flops(model.paint)


def body_flops(model: WorldModel) -> int:
    """Forward FLOPs of the body's picture of one observation (all cameras)."""
    pose = sum(2 * weight.numel() for weight in model.body.pose.parameters())
    return pose + len(model.spec.cameras) * _stages_flops(model.body)


def trunk_flops(model: WorldModel, tokens: int, layers: int, keys: int | None = None) -> int:
    """Forward FLOPs of ``layers`` blocks: ``tokens`` tokens read ``keys`` (default: all)."""
    c = model.config.trunk
    matrices = 2 * (4 + 2 * c.mlp_ratio) * c.width**2
    return layers * tokens * (matrices + 4 * c.width * (keys or tokens))


def segment_tokens(model: WorldModel, steps: int, objective: ObjectiveConfig) -> int:
    """Tokens of one training segment: context and all of its leaves."""
    N1, J = model.patches + 1, next_count(steps, objective)
    plans = steps * objective.plans * model.config.chunk
    return steps * (N1 + 1) + J * N1 + plans + steps + steps - 1


def training_flops(model: WorldModel, steps: int, objective: ObjectiveConfig) -> int:
    """FLOPs to train on one segment: forward, backward (twice that), and the teacher's forward."""
    depth = model.config.trunk.depth
    J = next_count(steps, objective)
    S = segment_tokens(model, steps, objective)
    outside = (steps + 1 + J) * stem_flops(model) + J * (painter_flops(model) + body_flops(model))
    flops = 3 * (trunk_flops(model, S, depth) + outside)
    if objective.name == "self_flow":
        flops += trunk_flops(model, S, feature_layers(depth)[1]) + (steps + J) * stem_flops(model)
    return flops


def imagination_flops(model: WorldModel, flow_steps: int, window: int) -> int:
    """FLOPs of one imagined step: its context once, and K readings of the next observation."""
    depth, N1 = model.config.trunk.depth, model.patches + 1
    ring = window * (N1 + 1)
    context = stem_flops(model) + trunk_flops(model, N1 + 1, depth, ring) + body_flops(model)
    return context + flow_steps * (
        stem_flops(model) + trunk_flops(model, N1, depth, ring + N1) + painter_flops(model)
    )


def plan_flops(model: WorldModel, flow_steps: int) -> int:
    """FLOPs of one plan: its observation once, and K readings of the chunk."""
    depth, N1, H = model.config.trunk.depth, model.patches + 1, model.config.chunk
    return (
        stem_flops(model)
        + trunk_flops(model, N1, depth)
        + flow_steps * trunk_flops(model, H, depth, N1 + H)
    )


def matmul_rate(dtype: torch.dtype, device: str = "cpu", repeats: int = 5) -> float:
    """The best of a few n x n x n products, in FLOP/s, with the current number of threads."""
    n = 2048 if device == "cpu" else 8192  # what fills it
    a = torch.randn(n, n, device=device).to(dtype)
    best = float("inf")
    for _ in range(repeats + 1):  # the first warms up
        start = time.perf_counter()
        torch.mm(a, a)
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best
