"""The parts of the transformer: rotary positions, adaptive modulation, attention, block."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def time_embedding(t: Tensor, width: int) -> Tensor:
    """(U,) flow times -> (U, width) sinusoids of 1000 t, in fp32 [DiT; x1000 as in FLUX]."""
    half = width // 2
    frequency = torch.exp(-math.log(10_000.0) * torch.arange(half, device=t.device) / half)
    angle = 1000.0 * t.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class Rope(NamedTuple):
    cos: Tensor  # (S, E)
    sin: Tensor  # (S, E), the sign of the rotation folded in


def rope(position: Tensor, head: int, theta: float = 100.0) -> Rope:
    """Rotary tables for (S, 3) positions on (step, row, column) and heads of size ``head``.

    A quarter of the pairs turns with the step, the rest is shared between row and column. Grids
    are small (at most tens of positions), hence the small base ``theta``.
    """
    pairs = head // 2
    share = [pairs // 4, (pairs - pairs // 4) // 2, pairs - pairs // 4 - (pairs - pairs // 4) // 2]
    angles = []
    for axis, count in enumerate(share):
        frequency = theta ** (-torch.arange(count, device=position.device).double() / count)
        angles.append(position[:, axis, None] * frequency)  # fp64: step 10,000,000 is as exact as 1
    angle = torch.cat(angles, dim=-1)  # (S, pairs)
    cos, sin = angle.cos().float(), angle.sin().float()
    return Rope(cos.repeat(1, 2), torch.cat([-sin, sin], dim=-1))


def rotate(x: Tensor, table: Rope) -> Tensor:
    """Apply rotary positions to (B, heads, S, E)."""
    half = x.shape[-1] // 2
    swapped = torch.cat([x[..., half:], x[..., :half]], dim=-1)
    return x * table.cos.to(x.dtype) + swapped * table.sin.to(x.dtype)


class Modulation(NamedTuple):
    """Scale, shift and gate of a block's two halves, each (B, S, D) [adaLN-Zero, DiT]."""

    scale_1: Tensor
    shift_1: Tensor
    gate_1: Tensor
    scale_2: Tensor
    shift_2: Tensor
    gate_2: Tensor


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last dimension with a learned scale, in the input's dtype.

    torch's own leaves its fused path when the weight is fp32 and the input bf16, as under autocast.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), 1e-6)


class Cache(NamedTuple):
    """Room for the keys and values of one layer; a block writes its tokens' into it, in place."""

    keys: Tensor  # (B, heads, room, E)
    values: Tensor  # (B, heads, room, E)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot-product attention; ``mask`` broadcasts over heads and is True where seen.

    On a CPU masked attention is written out: there torch's fused kernel ran at a fraction of the
    speed of these matrix products, backward above all (docs/log.md).
    """
    if q.is_cuda or mask is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    scores = scores.masked_fill(~mask, -torch.inf)
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
        cache: Cache | None = None, at: int = 0,
    ) -> Tensor:  # fmt: skip
        """(B, S, D) -> (B, S, D). ``mask`` (B, 1, S or 1, keys): which key each token reads.

        Without a ``cache`` the keys are the S tokens themselves. With one, their keys and values
        are written to its places ``at`` to ``at + S``, and what is read is as much of the cache as
        the mask is wide.
        """
        q, k, v = self.project(x, mod, table)
        if cache is not None:
            assert mask is not None, "a cache is read through a mask"
            S = x.shape[1]
            cache.keys[:, :, at : at + S] = k
            cache.values[:, :, at : at + S] = v
            k, v = (part[:, :, : mask.shape[-1]] for part in cache)
        return self.finish(x, mod, attend(q, k, v, mask))

    def project(self, x: Tensor, mod: Modulation, table: Rope) -> tuple[Tensor, Tensor, Tensor]:
        """(B, S, D) -> queries, keys and values, (B, heads, S, E) each."""
        B, S, D = x.shape
        h = self.norm_1(x) * (1 + mod.scale_1) + mod.shift_1
        q, k, v = self.qkv(h).view(B, S, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        q, k = rotate(self.q_norm(q), table), rotate(self.k_norm(k), table)
        return q, k, v.to(q.dtype)

    def finish(self, x: Tensor, mod: Modulation, read: Tensor) -> Tensor:
        """The rest of the block, from what was ``read`` by attention (B, heads, S, E)."""
        x = x + mod.gate_1 * self.out(read.transpose(1, 2).reshape(x.shape))
        h = self.norm_2(x) * (1 + mod.scale_2) + mod.shift_2
        return x + mod.gate_2 * self.mlp_out(F.gelu(self.mlp_in(h), approximate="tanh"))
