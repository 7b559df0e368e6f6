"""Muon: a matrix's momentum is made orthogonal before it is taken as an update.

Every direction of a matrix then learns alike, where gradients are mostly of few of them [Jordan et
al. 2024, kellerjordan.github.io/posts/muon]. Updates have the size of AdamW's, so that one learning
rate serves both [Liu et al. 2025, arXiv 2502.16982]. Products are in the precision of the autocast
around `step`; torch's own Muon has them in bf16 whatever the processor, which without instructions
for it took 9 s an update of `tiny` beside 0.2 (docs/log.md, 2026-11-28).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from worldmodel.distributed import spread, whole

QUINTIC = 3.4445, -4.775, 2.0315  # of a polynomial that takes singular values towards one
TIMES = 5
LIKE_ADAMW = 0.2  # root mean square of AdamW's updates, about


class Muon(torch.optim.Optimizer):
    """For matrices (m, n) alone; those of one shape are made orthogonal together."""

    def __init__(
        self, matrices: Iterable[nn.Parameter], lr: float, weight_decay: float,
        momentum: float = 0.95,
    ) -> None:  # fmt: skip
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            alike: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
                average = self.state[p]["momentum"].lerp_(p.grad, 1 - group["momentum"])
                ahead = p.grad.lerp(average, group["momentum"])  # Nesterov's
                alike.setdefault(p.shape, []).append((p, whole(ahead)))
            for shape, rows in alike.items():
                size = group["lr"] * LIKE_ADAMW * max(shape) ** 0.5
                updates = orthogonal(torch.stack([x for _, x in rows]))
                for (p, _), update in zip(rows, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.sub_(spread(update.to(p.dtype), p), alpha=size)


def orthogonal(x: Tensor) -> Tensor:
    """(..., m, n) with its singular vectors kept and its singular values near one (0.7 to 1.2)."""
    a, b, c = QUINTIC
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(TIMES):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
