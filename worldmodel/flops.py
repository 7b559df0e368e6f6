"""Model FLOPs, counted from the shapes, and the machine's own matmul rate to compare them with."""

from __future__ import annotations

import time

import torch

from worldmodel.model import WorldModel
from worldmodel.objective import ObjectiveConfig, feature_layers, next_count


def stem_flops(model: WorldModel) -> int:
    """Forward FLOPs of the convolutional stem for one observation (all cameras)."""
    h, w = model.spec.image_size
    total = 0
    for convolution in model.embed_obs.stem.convolutions:
        h, w = h // 2, w // 2
        total += 2 * convolution.get_parameter("weight").numel() * h * w
    return total * len(model.spec.cameras)


def painter_flops(model: WorldModel) -> int:
    """Forward FLOPs of the painter for one observation (all cameras)."""
    (h, w), total = model.paint.grid, 0
    for enlarge, skip, refine in zip(
        model.paint.enlarge, model.paint.skip, model.paint.refine, strict=True
    ):
        total += 2 * h * w * enlarge.get_parameter("weight").numel()
        h, w = 2 * h, 2 * w
        for convolution in (skip, refine):
            total += 2 * h * w * convolution.get_parameter("weight").numel()
    total += 2 * h * w * model.paint.read.weight.numel()
    return total * len(model.spec.cameras)


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
    outside = (steps + 1 + J) * stem_flops(model) + J * painter_flops(model)
    flops = 3 * (trunk_flops(model, S, depth) + outside)
    if objective.name == "self_flow":
        flops += trunk_flops(model, S, feature_layers(depth)[1]) + (steps + J) * stem_flops(model)
    return flops


def imagination_flops(model: WorldModel, flow_steps: int, window: int) -> int:
    """FLOPs of one imagined step: its context once, and K readings of the next observation."""
    depth, N1 = model.config.trunk.depth, model.patches + 1
    ring = window * (N1 + 1)
    context = stem_flops(model) + trunk_flops(model, N1 + 1, depth, ring)
    return context + flow_steps * (
        stem_flops(model) + trunk_flops(model, N1, depth, ring + N1) + painter_flops(model)
    )


def matmul_rate(dtype: torch.dtype, device: str = "cpu", n: int = 2048, repeats: int = 5) -> float:
    """The best of a few n x n x n products, in FLOP/s, with the current number of threads."""
    a = torch.randn(n, n, device=device).to(dtype)
    best = float("inf")
    for _ in range(repeats + 1):  # the first warms up
        start = time.perf_counter()
        torch.mm(a, a)
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best
