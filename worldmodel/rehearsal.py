"""Rehearsal: the model imagines along recorded episodes, and learns to go on from there.

A model that has only seen real pictures does not know its own mistakes, and they grow [Bengio et
al. 2015, arXiv 1506.03099]. So every REFRESH updates the EMA teacher imagines stretches of many
steps along recorded actions and proprioception; until the next time windows of these take the place
of real pictures in the student's context. What follows is always the real picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodel.device import generator_on
from worldmodel.distributed import ALONE, Ranks
from worldmodel.graphs import Replayed
from worldmodel.inference import new_memory, remember_act, remember_obs, sample_next
from worldmodel.model import WorldModel
from worldmodel.objective import Segment

if TYPE_CHECKING:
    from worldmodel.windows import Windows

REFRESH = 16  # updates that share a set of dreams
FLOW_STEPS = (1, 2, 4)  # K, drawn at random: pictures of fewer steps are blurred in another way


class Dreams(NamedTuple):
    """R imagined stretches of up to L steps."""

    images: Tensor  # uint8 (R, L + 1, C, h, w, 3); the first is real
    proprio: Tensor  # float32 (R, P) where that was taken
    window: Tensor  # int64 (R,) number of the window that each begins with
    windows: Tensor  # int64 (R,) how many windows it has


@torch.no_grad()
def dream(
    model: WorldModel, batch: Segment, flow_steps: int, generator: torch.Generator,
    ranks: Ranks = ALONE,
) -> Tensor:  # fmt: skip
    """Pictures uint8 (B, T + 1, C, h, w, 3) of these segments, all imagined but the first. Actions
    (absent where they are not known) and proprioception are the recorded ones."""
    patches, proprio = model.observe(batch.images[:, 0], batch.proprio)
    action, clean = model.action_scale(batch.action), proprio.new_zeros(len(proprio))
    absent = (~batch.known).float()  # (B, T) flow times
    memory, found = new_memory(model, len(proprio)), [batch.images[:, 0]]
    drawn, mine = ranks.draws(len(proprio))
    source = generator_on(proprio.device, generator)

    def noise_like(x: Tensor) -> Tensor:
        return torch.randn((drawn, *x.shape[1:]), generator=source, device=x.device)[mine]

    def go_on(
        pose: Tensor, act: Tensor, unknown: Tensor, noise: Tensor, noise_change: Tensor
    ) -> Tensor:
        remember_obs(model, memory, patches, pose, clean)
        remember_act(model, memory, act, unknown)
        noises = noise, noise_change
        patches.copy_(sample_next(model, memory, patches, noises, flow_steps)[0].clamp(-1.0, 1.0))
        return model.show(patches)

    action = torch.where(batch.known[..., None], action, noise_like(action))
    step = Replayed(go_on, proprio.device if ranks.world == 1 else torch.device("cpu"))
    for n in range(batch.action.shape[1]):
        noise = noise_like(patches), noise_like(proprio[:, 0])
        found.append(step(n % memory.window, proprio[:, n], action[:, n], absent[:, n], *noise))
        memory.step = n
    return torch.stack(found, dim=1)


def dream_along(
    model: WorldModel, windows: Windows, rows: int, steps: int, demonstrations: float,
    rng: np.random.Generator, generator: torch.Generator, ranks: Ranks = ALONE,
) -> Dreams:  # fmt: skip
    """``rows`` stretches of up to ``steps`` steps, of which this share is from demonstrations.
    Each of the ``ranks`` imagines some, and gets all."""
    window, count = windows.stretches(rows, steps, rng, demonstrations)
    batch = Segment.of(windows.get(window[ranks.rows()], length=steps), model.grid.device)
    images = dream(model, batch, int(rng.choice(FLOW_STEPS)), generator, ranks)
    images, proprio = ranks.gather(images), ranks.gather(batch.proprio[:, 0])
    return Dreams(images, proprio, torch.from_numpy(window), torch.from_numpy(count))


def rehearse(
    dreams: Dreams, windows: Windows, rows: int, rng: np.random.Generator,
    part: slice = slice(None),
) -> tuple[Segment, Tensor]:  # fmt: skip
    """``rows`` segments anywhere in the dreams, and their imagined pictures uint8 (rows, T, C, h,
    w, 3); a ``part`` of them."""
    count = dreams.windows.numpy()
    place = rng.integers(0, count.sum(), rows)[part]
    row = np.searchsorted(np.cumsum(count), place, side="right")
    offset = place - (np.cumsum(count) - count)[row]
    segment = Segment.of(windows.get(dreams.window.numpy()[row] + offset), dreams.images.device)
    frames = torch.from_numpy(offset[:, None] + np.arange(segment.action.shape[1]))
    row = torch.from_numpy(row)
    return (
        segment._replace(first=dreams.images[row, 0], first_proprio=dreams.proprio[row]),
        dreams.images[row[:, None], frames],
    )
