"""Which of several plans comes out best: imagine each, and read what it earns."""

from __future__ import annotations

from collections.abc import Sequence

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
    are imagined: discounted rewards, weighted by the chance that the episode still goes on and
    that what is imagined is what would be, and at
    the end the value that the outcome leaf reads. ``generators``: one, or one for each of n N.
    """
    n, N = plans.shape[:2]
    world = Imagination(
        model, images.repeat_interleave(N, 0), proprio.repeat_interleave(N, 0),
        generators=generators, config=config,
    )  # fmt: skip
    actions = plans.flatten(0, 1)
    going = torch.ones(n * N, device=world.device)
    total = torch.zeros(n * N, device=world.device)
    read: dict[str, Tensor] = {}
    for k in range(steps):
        world.step(actions[:, k])
        read = dict(zip(READINGS, world.outcomes().unbind(-1), strict=True))
        total += DISCOUNT**k * going * read["reward"]
        going = going * (1 - torch.maximum(read["success"], read["terminated"]))
        going = going * (1 - read["strayed"])
    total += DISCOUNT**steps * going * read["value"]
    return total.view(n, N)
