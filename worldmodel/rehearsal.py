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
from worldmodel.memory import Memory
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


class Stage:
    """Where the same model dreams again and again, always in as many rows.

    What it remembers stays in its place, so that a GPU's graphs of a step serve for all dreams:
    weights that change in place are the graphs' too.
    """

    def __init__(self, model: WorldModel, rows: int, ranks: Ranks = ALONE) -> None:
        self.model, self.rows, self._ranks = model, rows, ranks
        self._memory: Memory | None = None
        self._steps: dict[int, Replayed] = {}  # by the number of flow steps

    @torch.no_grad()
    def dream(self, batch: Segment, flow_steps: int, generator: torch.Generator) -> Tensor:
        """Pictures uint8 (B, T + 1, C, h, w, 3) of these segments, all imagined but the first.
        Actions (absent where they are not known) and proprioception are the recorded ones."""
        model, ranks = self.model, self._ranks
        patches, proprio = model.observe(batch.images[:, 0], batch.proprio)
        self._begin(patches, proprio[:, 0])
        action, absent = model.action_scale(batch.action), (~batch.known).float()  # flow times
        drawn, mine = ranks.draws(self.rows)
        source = generator_on(proprio.device, generator)

        def noise_like(x: Tensor) -> Tensor:
            return torch.randn((drawn, *x.shape[1:]), generator=source, device=x.device)[mine]

        action = torch.where(batch.known[..., None], action, noise_like(action))
        step, memory, found = self._step(flow_steps), self._memory, [batch.images[:, 0]]
        assert memory is not None
        for n in range(batch.action.shape[1]):
            noise = noise_like(self._latest), noise_like(proprio[:, 0])
            place = n % memory.window
            found.append(step(place, action[:, n], absent[:, n], proprio[:, n + 1], *noise))
            memory.step = n + 1
        return torch.stack(found, dim=1)

    def _begin(self, patches: Tensor, proprio: Tensor) -> None:
        """Remember the first observation and nothing else."""
        fresh = new_memory(self.model, self.rows)
        remember_obs(self.model, fresh, patches, proprio, proprio.new_zeros(1))
        if self._memory is None:
            self._memory, self._latest = fresh, patches.clone()
            return
        self._memory.step = fresh.step
        self._memory.clock.copy_(fresh.clock)
        self._memory.put(torch.arange(self.rows, device=patches.device), fresh)
        self._latest.copy_(patches)

    def _step(self, flow_steps: int) -> Replayed:
        """Act, imagine what follows, and remember it beside the recorded proprioception."""
        model, memory, latest = self.model, self._memory, self._latest
        assert memory is not None

        def run(
            act: Tensor, absent: Tensor, pose: Tensor, noise: Tensor, noise_change: Tensor
        ) -> Tensor:  # fmt: skip
            noises = noise, noise_change
            remember_act(model, memory, act, absent)
            latest.copy_(sample_next(model, memory, latest, noises, flow_steps)[0].clamp(-1, 1))
            remember_obs(model, memory, latest, pose, pose.new_zeros(1))
            return model.show(latest)

        if flow_steps not in self._steps:
            alone = self._ranks.world == 1
            place = latest.device if alone else torch.device("cpu")  # that is: without graphs
            self._steps[flow_steps] = Replayed(run, place)
        return self._steps[flow_steps]


def dream_along(
    stage: Stage, windows: Windows, rows: int, steps: int, demonstrations: float,
    rng: np.random.Generator, generator: torch.Generator, ranks: Ranks = ALONE,
) -> Dreams:  # fmt: skip
    """``rows`` stretches of up to ``steps`` steps, of which this share is from demonstrations.
    Each of the ``ranks`` imagines some, and gets all."""
    window, count = windows.stretches(rows, steps, rng, demonstrations)
    device = stage.model.grid.device
    batch = Segment.of(windows.get(window[ranks.rows()], length=steps), device)
    images = stage.dream(batch, int(rng.choice(FLOW_STEPS)), generator)
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
