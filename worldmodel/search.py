"""Which of several plans comes out best: imagine each, and read what it earns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from worldmodel.dataset import DISCOUNT
from worldmodel.leaves import READINGS
from worldmodel.model import WorldModel
from worldmodel.rollout import Imagination, RolloutConfig


@torch.no_grad()
def score_plans(
    model: WorldModel, images: Tensor, proprio: Tensor, plans: Tensor, steps: int,
    generators: torch.Generator | Sequence[torch.Generator], config: RolloutConfig,
) -> Tensor:  # fmt: skip
    """The return (n, N) that the model expects of plans (n, N, H, A) from observations of n worlds.

    ``images`` (n, C, h, w, 3) uint8, ``proprio`` (n, P). The first ``steps`` actions of each plan
    are imagined. ``generators``: one, or one for each of n N.
    """
    n, N = plans.shape[:2]
    world = Imagination(
        model, images.repeat_interleave(N, 0), proprio.repeat_interleave(N, 0),
        generators=generators, config=config,
    )  # fmt: skip
    totals = [total for _, _, total in act_out(world, plans.flatten(0, 1)[:, :steps])]
    return totals[-1].view(n, N)


def act_out(world: Imagination, plans: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Imagine plans (B, H, A) step by step: images, proprio, and the return (B,) if it ended here.

    That is discounted rewards, weighted by the chance that the episode still goes on and that what
    is imagined is what would be, and the value that the outcome leaf reads of the latest.
    """
    going = torch.ones(len(plans), device=world.device)
    earned = torch.zeros(len(plans), device=world.device)
    for k in range(plans.shape[1]):
        images, proprio = world.step(plans[:, k])
        read = dict(zip(READINGS, world.outcomes().unbind(-1), strict=True))
        earned += DISCOUNT**k * going * read["reward"]
        going = going * (1 - torch.maximum(read["success"], read["terminated"]))
        going = going * (1 - read["strayed"])
        yield images, proprio, earned + DISCOUNT ** (k + 1) * going * read["value"]
