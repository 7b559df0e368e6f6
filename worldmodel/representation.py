"""What is asked of a block inside the trunk while it learns to denoise, and thrown away after.

Self-Flow [arXiv 2603.06507, eq. 7]: the student's features at 0.3 of the depth, projected, are to
be those of the EMA teacher at 0.7 of the depth, who sees the same leaf less noisy,

    L_rep  1 - cos(head(student), teacher), over channels

ReWorld [arXiv 2606.27504]: a second linear read-out, at 0.3 of the depth, of what the last block is
read for.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.distributed import ALONE, Ranks
from worldmodel.leaves import Features


def feature_layers(depth: int) -> tuple[int, int]:
    """Student and teacher layers, counted from 1: 0.3 and 0.7 of the depth."""
    return max(1, round(0.3 * depth)), max(1, round(0.7 * depth))


def representation_head(width: int) -> nn.Sequential:
    """The student's projection onto the teacher's features [Self-Flow, official SimpleHead]."""
    return nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))


class MidHead(nn.Module):
    """The clean data of every leaf, read off features (..., D) inside the trunk."""

    def __init__(self, width: int, patch: int, action: int) -> None:
        super().__init__()
        self.next, self.plan = nn.Linear(width, patch), nn.Linear(width, action)

    def forward(self, features: Features) -> Features:
        """Patches (B, J, N, Q) and plans (B, T, M H, A)."""
        patches = self.next(features.next[..., :-1, :])
        return Features(patches.float(), self.plan(features.plan).float())


def head_of(objective: str, width: int, patch: int, action: int) -> nn.Module:
    """What reads the features in training towards an objective of that name."""
    return MidHead(width, patch, action) if objective == "mid" else representation_head(width)


def masked_mean(x: Tensor, mask: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """The mean where ``mask`` is up; with other processes, what they all average to it."""
    return (x * mask).sum() / ranks.count(mask)


def representation_loss(
    head: nn.Module, student: Features, teacher: Features, known: Tensor, ranks: Ranks = ALONE
) -> tuple[Tensor, dict[str, Tensor]]:
    """L_rep (scalar), a mean per modality; cosines, and the norm of the teacher's features.

    ``known`` (B, T, 1) is False where there is no plan to have features of.
    """
    cosine = {
        name: F.cosine_similarity(head(s).float(), t.float(), dim=-1)
        for name, s, t in zip(Features._fields, student, teacher, strict=True)
    }
    there = {"next": torch.ones_like(cosine["next"]), "plan": known.expand_as(cosine["plan"])}
    apart = torch.stack([masked_mean(1 - c, there[k], ranks) for k, c in cosine.items()]).mean()
    metrics = {f"cosine_{k}": masked_mean(c, there[k], ranks) for k, c in cosine.items()}
    return apart, metrics | {"feature_norm": teacher.plan.float().norm(dim=-1).mean()}
