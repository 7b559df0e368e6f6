"""The parts of the transformer: rotary positions, adaptive modulation, attention, block."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-6  # of the norms

TIME_WIDTH = 256


def time_embedding(t: Tensor, frequency: Tensor) -> Tensor:
    """(U,) flow times -> (U, TIME_WIDTH) sinusoids of 1000 t, in fp32 [DiT; x1000 as in FLUX].

    ``frequency`` is :func:`time_frequency`."""
    angle = t.float()[:, None] * (1000.0 * frequency)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def time_frequency() -> Tensor:
    """(TIME_WIDTH / 2,), from 1 down to 1 / 10,000."""
    half = TIME_WIDTH // 2
    return torch.exp(-math.log(10_000.0) * torch.arange(half) / half)


class Rope(NamedTuple):
    cos: Tensor  # (S, E)
    sin: Tensor  # (S, E), the sign of the rotation folded in


def rope_frequency(head: int, theta: float = 100.0) -> Tensor:
    """(3, head / 2): how fast each pair of a head of this size turns with step, row and column.

    A quarter of the pairs turns with the step, the rest is shared between row and column. Grids
    are small (at most tens of positions), hence the small base ``theta``.
    """
    pairs = head // 2
    share = [pairs // 4, (pairs - pairs // 4) // 2, pairs - pairs // 4 - (pairs - pairs // 4) // 2]
    axes = [theta ** (-torch.arange(count).double() / count) for count in share]
    return torch.block_diag(*axes)  # fp64: step 10,000,000 is as exact as 1


def rope(angle: Tensor) -> Rope:
    """Rotary tables for angles (S, head / 2): positions (S, 3) @ :func:`rope_frequency`."""
    cos, sin = angle.cos().float(), angle.sin().float()
    return Rope(cos.repeat(1, 2), torch.cat([-sin, sin], dim=-1))


def rotate(x: Tensor, table: Rope) -> Tensor:
    """Apply rotary positions to (…, E), where ``table`` broadcasts."""
    left, right = x.chunk(2, dim=-1)
    swapped = torch.cat([right, left], dim=-1)
    return torch.addcmul(x * table.cos.to(x.dtype), swapped, table.sin.to(x.dtype))


class Modulation(NamedTuple):
    """Scale (about 1), shift and gate of a block's two halves, (B, S, D) each [adaLN-Zero, DiT]."""

    scale_1: Tensor
    shift_1: Tensor
    gate_1: Tensor
    scale_2: Tensor
    shift_2: Tensor
    gate_2: Tensor


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """Root-mean-square norm over the last dimension with a scale (E,), in the input's dtype.

    torch's own has one kernel for it on GPUs alone, and there only in the input's dtype; on a CPU
    the length of a vector has one, and nine operations become six (docs/log.md).
    """
    if x.is_cuda:
        return F.rms_norm(x, weight.shape, weight.to(x.dtype), EPSILON)
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(EPSILON)
    return x / length * (weight * x.shape[-1] ** 0.5).to(x.dtype)


def begin_by_he(*parts: nn.Module) -> None:
    """Weights of all linear layers and convolutions within ``parts`` keep what comes in as large,
    past a rectifier and nearly past GELU [He et al. 2015, arXiv 1502.01852]; by torch's own a sixth
    of the variance is left after each, and what inputs differ in is lost (docs/log.md)."""
    for part in parts:
        for layer in part.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


class RMSNorm(nn.Module):
    """The same with a learned scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight)


class Cache(NamedTuple):
    """Room for the keys and values of one layer; a block writes its tokens' into it, in place."""

    keys: Tensor  # (B, heads, room, E)
    values: Tensor  # (B, heads, room, E)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot-product attention; ``mask`` broadcasts over heads and is added to the scores.

    Where a CPU learns, masked attention is written out: there torch's fused kernel ran at a
    fraction of the speed of these matrix products, backward above all (docs/log.md).
    """
    if q.is_cuda or mask is None or not q.requires_grad:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + mask
    return scores.softmax(dim=-1).to(v.dtype) @ v


class Block(nn.Module):
    """Pre-norm transformer block with QK-norm; the modulation comes from outside, per token."""

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.heads = heads
        head = width // heads
        self.norm_1 = RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm = RMSNorm(head)
        self.k_norm = RMSNorm(head)
        self.out = nn.Linear(width, width, bias=False)
        self.norm_2 = RMSNorm(width)
        self.mlp_in = nn.Linear(width, mlp_ratio * width)
        self.mlp_out = nn.Linear(mlp_ratio * width, width)

    def forward(
        self, x: Tensor, mod: Modulation, table: Rope, mask: Tensor | None,
        cache: Cache | None = None, at: int = 0, remember: bool = False,
    ) -> Tensor:  # fmt: skip
        """(B, S, D) -> (B, S, D). ``mask`` (B, 1, S or 1, keys): 0 for each key that a
        token reads, else minus infinity.

        Without a ``cache`` the keys are the S tokens themselves. With one, their keys and values
        are written to its places ``at`` to ``at + S``, and what is read is as much of the cache as
        the mask is wide, or, without one, up to ``at + S``; with ``remember`` that is all, and x
        comes back as it was.
        """
        q, k, v = self.project(x, mod, table)
        if cache is not None:
            end = at + x.shape[1]
            cache.keys[:, :, at:end] = k
            cache.values[:, :, at:end] = v
            if remember:
                return x
            read = end if mask is None else mask.shape[-1]
            k, v = (part[:, :, :read] for part in cache)
        return self.finish(x, mod, attend(q, k, v, mask))

    def project(self, x: Tensor, mod: Modulation, table: Rope) -> tuple[Tensor, Tensor, Tensor]:
        """(B, S, D) -> queries, keys and values, (B, heads, S, E) each."""
        B, S, D = x.shape
        h = torch.addcmul(mod.shift_1, self.norm_1(x), mod.scale_1)
        # each by itself: of both in one, a compiled backward pass takes twice as long (docs/log.md)
        q, k, v = self.qkv(h).view(B, S, 3, self.heads, D // self.heads).unbind(2)
        places = Rope(*(part[:, None] for part in table))  # of S, not of heads
        q, k = rotate(self.q_norm(q), places), rotate(self.k_norm(k), places)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def finish(self, x: Tensor, mod: Modulation, read: Tensor) -> Tensor:
        """The rest of the block, from what was ``read`` by attention (B, heads, S, E)."""
        x = torch.addcmul(x, mod.gate_1, self.out(read.transpose(1, 2).reshape(x.shape)))
        h = torch.addcmul(mod.shift_2, self.norm_2(x), mod.scale_2)
        h = self.mlp_out(F.gelu(self.mlp_in(h)))
        return torch.addcmul(x, mod.gate_2, h)
