"""The trunk that every token group shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from worldmodel.layers import (
    TIME_WIDTH,
    Block,
    Cache,
    Modulation,
    RMSNorm,
    Rope,
    time_embedding,
    time_frequency,
)


@dataclass(frozen=True)
class TransformerConfig:
    width: int = field(default=256, metadata={"help": "width D of every token"})
    depth: int = field(default=4, metadata={"help": "number of blocks"})
    heads: int = field(default=4, metadata={"help": "attention heads; width / heads must be even"})
    mlp_ratio: int = field(default=4, metadata={"help": "hidden width of the MLP over the width"})

    def __post_init__(self) -> None:
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(
                f"width / heads must be a whole even number, got {self.width} / {self.heads}; "
                "choose heads that divide the width"
            )


class When(NamedTuple):
    """What tokens are given of their flow times, each by itself or all alike."""

    mod: Modulation  # of every block
    scale: Tensor  # of the output, (B or 1, S or 1, D)
    shift: Tensor

    @classmethod
    def of(cls, blocks: Tensor, end: Tensor) -> When:
        """From :meth:`Trunk.modulate`'s (B or 1, S or 1, 6 D) and (…, 2 D)."""
        return cls(Modulation(*blocks.chunk(6, dim=-1)), *end.chunk(2, dim=-1))


class Where(NamedTuple):
    """Where tokens stand, and what they read."""

    table: Rope
    bias: Tensor | None  # (B, 1, S or 1, keys) 0 where a token reads a key, else minus infinity

    @classmethod
    def of(cls, table: Rope, mask: Tensor | None, dtype: torch.dtype) -> Where:
        """From a ``mask`` (B, S or 1, keys) that is True where a token reads a key."""
        rotary = Rope(table.cos.to(dtype), table.sin.to(dtype))
        if mask is None:
            return cls(rotary, None)
        return cls(rotary, torch.where(mask, 0.0, -torch.inf).to(dtype)[:, None])


class Trunk(nn.Module):
    """Blocks with one modulation shared by all of them [as FLUX.2], from each token's flow time."""

    one: Tensor
    frequency: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        D = config.width
        self.time = nn.Sequential(nn.Linear(TIME_WIDTH, D), nn.SiLU(), nn.Linear(D, D), nn.SiLU())
        self.modulation = nn.Linear(D, 6 * D)
        self.final = nn.Linear(D, 2 * D)
        self.final_norm = RMSNorm(D)
        self.blocks = nn.ModuleList(
            Block(D, config.heads, config.mlp_ratio) for _ in range(config.depth)
        )
        # of scale, shift and gate, twice, what is 1 + what the network says
        one = torch.tensor([1.0, 0, 0, 1, 0, 0]).repeat_interleave(D)
        self.register_buffer("one", one, persistent=False)
        self.register_buffer("frequency", time_frequency(), persistent=False)
        for layer in (self.modulation, self.final):  # gates start at zero: every block is identity
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, x: Tensor, time: Tensor, table: Rope, mask: Tensor | None,
        caches: Sequence[Cache] | None = None, at: int = 0, feature_layer: int | None = None,
        stop: bool = False, remember: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """(B, S, D) tokens at flow times (B, S), or (B or 1, 1), -> (output (B, S, D), features).

        ``mask`` (B, S or 1, keys) is True where a token reads a key; ``caches`` (one per block) and
        ``at`` as in :class:`Block`. ``features`` is the hidden state after block ``feature_layer``
        (counted from 1); with ``stop`` nothing after that block is computed. With ``remember``
        only keys and values are wanted: the output is what the last block was given.
        """
        if time.shape[1] > 1:  # a sequence has few distinct times: embed those, then gather
            distinct, index = time.unique(return_inverse=True)
            parts = (nn.functional.embedding(index, part) for part in self.modulate(distinct))
        else:
            parts = (part[:, None] for part in self.modulate(time[:, 0]))
        when = When.of(*parts)
        where = Where.of(table, mask, when.scale.dtype)
        return self.run(x, when, where, caches, at, feature_layer, stop, remember)

    def run(
        self, x: Tensor, when: When, where: Where, caches: Sequence[Cache] | None = None,
        at: int = 0, feature_layer: int | None = None, stop: bool = False, remember: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """:meth:`forward`, of what can be made once for several passes."""
        x = x.to(when.scale.dtype)
        features = None
        for i, block in enumerate(self.blocks):
            last = remember and i + 1 == len(self.blocks)
            cache = caches[i] if caches else None
            x = block(x, when.mod, where.table, where.bias, cache, at, last)
            if last:
                return x, features
            if i + 1 == feature_layer:
                features = x
                if stop:
                    return x, features
        return torch.addcmul(when.shift, self.final_norm(x), when.scale), features

    def modulate(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Flow times (U,) -> modulation of the blocks (U, 6 D), and of their output (U, 2 D)."""
        c = self.time(time_embedding(time, self.frequency))
        one = self.one.to(c.dtype)
        return self.modulation(c) + one, self.final(c) + one[: 2 * self.config.width]


def parameter_count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
