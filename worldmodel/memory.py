"""What the model remembers of the last W steps: a ring buffer of keys and values.

Step n has W slots to choose from and takes slot n mod W: it overwrites step n - W, which has just
left the window. A slot has room for the step's observation tokens and its action token; behind the
ring there is room for one leaf, which the next one overwrites.

    | obs_n-2 act_n-2 | obs_n-1 act_n-1 | obs_n  (act_n) |  leaf  |        W = 3

Nothing is moved and nothing grows: a step costs the same at any horizon. What is kept from one step
to the next stays where it is and is written over, so that a GPU can replay a step
(:mod:`worldmodel.graphs`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worldmodel.layers import Cache


@dataclass
class Memory:
    """Keys and values per block; `visible` says which places of the ring hold something."""

    caches: list[Cache]  # one per block, (B, heads, W G + leaf, E)
    visible: Tensor  # (B, W G) bool
    obs: Tensor  # (B, G - 1, D) embedded tokens of the latest observation
    maps: list[Tensor]  # the stem's maps of the latest observation, (B, 1, C, c, h', w') each
    first: Tensor  # (B, N, Q) the first observation, however long ago
    first_maps: list[Tensor]  # the stem's maps of it
    first_proprio: Tensor  # (B, P) and its proprioception, normalised
    act: Tensor  # (B, D) embedded token of the latest action
    proprio: Tensor  # (B, P) the latest, normalised
    state: Tensor  # (B, P + A) the same and the latest action, 0 where absent
    group: int  # G, tokens of a step: its observation's, and one for its action
    clock: Tensor  # int64 () the latest env step n in it
    step: int = -1  # the same for the CPU

    @classmethod
    def empty(
        cls, batch: int, window: int, group: int, leaf: int, blocks: int, heads: int, size: int,
        dtype: torch.dtype, device: torch.device,
    ) -> Memory:  # fmt: skip
        """Room for ``window`` steps of ``group`` tokens and one leaf of up to ``leaf``."""
        room = (batch, heads, window * group + leaf, size)

        def zeros() -> Tensor:
            return torch.zeros(room, dtype=dtype, device=device)

        visible = torch.zeros(batch, window * group, dtype=torch.bool, device=device)
        nothing, clock = torch.zeros(batch, 0, device=device), torch.tensor(-1, device=device)
        caches = [Cache(zeros(), zeros()) for _ in range(blocks)]
        return cls(
            caches, visible, nothing, [], nothing, [], nothing, nothing, nothing, nothing, group,
            clock,
        )  # fmt: skip

    def look(self, patches: Tensor, proprio: Tensor, obs: Tensor, maps: list[Tensor]) -> None:
        """Keep the latest observation (B, N, Q), (B, P), as tokens and the stem's maps; the first
        of all as the first one too."""
        if not self.first_maps:
            self.obs, self.maps = obs.clone(), [m.clone() for m in maps]
            self.proprio, self.first_proprio = proprio.clone(), proprio.clone()
            self.first, self.first_maps = patches.clone(), [m.clone() for m in maps]
            return
        self.obs.copy_(obs)
        self.proprio.copy_(proprio)
        for mine, new in zip(self.maps, maps, strict=True):
            mine.copy_(new)

    def forgetful(self, rows: Tensor) -> Memory:
        """A copy of these rows (n,) that remembers nothing and takes the latest step once more."""
        caches = [Cache(*(part[rows] for part in cache)) for cache in self.caches]
        nothing = torch.zeros_like(self.visible[rows])
        return replace(
            self, caches=caches, visible=nothing, first_maps=[], clock=self.clock - 1,
            step=self.step - 1,
        )  # fmt: skip

    def put(self, rows: Tensor, part: Memory) -> None:
        """Replace these rows (n,) by those of ``part``, whose latest step is the same."""
        assert part.step == self.step, f"steps {part.step} and {self.step}"
        for mine, theirs in zip(self.caches, part.caches, strict=True):
            mine.keys[rows], mine.values[rows] = theirs.keys, theirs.values
        for mine, theirs in (
            (self.visible, part.visible), (self.obs, part.obs), (self.proprio, part.proprio),
            (self.first, part.first), (self.first_proprio, part.first_proprio),
            *zip(self.maps, part.maps, strict=True),
            *zip(self.first_maps, part.first_maps, strict=True),
        ):  # fmt: skip
            mine[rows] = theirs

    @property
    def window(self) -> int:
        return self.visible.shape[1] // self.group

    @property
    def ring(self) -> int:
        """The first place behind the ring, where leaves go."""
        return self.visible.shape[1]

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for cache in self.caches for part in cache)

    def open_step(self) -> int:
        """Go on to the next env step; returns the place of its observation's first token."""
        self.step += 1
        self.clock += 1
        at = self.step % self.window * self.group
        self.visible[:, at : at + self.group] = False
        return at

    @property
    def action_place(self) -> int:
        """The place of the latest step's action token."""
        return self.step % self.window * self.group + self.group - 1
