"""From tokens back to pixels: what to copy, from where, and what to paint.

The stem's way in reverse: a token becomes four cells, those sixteen, up to half the resolution, and
at each stage the stem's own maps of the latest and of the first observation come in beside it, as
in a U-Net [Ronneberger et al. 2015, arXiv 1505.04597]. Every pixel of the next picture is then a
mixture of three: the latest picture's along a flow [Finn et al. 2016, arXiv 1605.07157], the first
one's in its place [the background image of Ebert et al. 2017, arXiv 1710.05268], and a painted one.
What stands still or moves as a whole stays sharp at any horizon, and what the arm uncovers is
still known, for the first picture was real.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldmodel.cameras import pixel_places, sample
from worldmodel.sights import HEIGHT_SCALE, Sights

FLOW_SCALE = 4.0  # pixels, of a displacement that is read as 1
HIDDEN = 12.0  # by which the logarithm of a share falls where there is nothing to copy


class Glance(NamedTuple):
    """What a painter makes of the sights before it is told what to paint."""

    beside: list[Tensor]  # (M, b, 2i, 2j) for every stage, coarse to fine
    compared: Tensor  # (M, b, h/2, w/2)


class Stage(nn.Module):
    """Twice the resolution: (M, i, j, a) -> (M, 2i, 2j, b), with ``seen`` maps beside it."""

    def __init__(self, a: int, b: int, seen: int = 0) -> None:
        super().__init__()
        self.enlarge = nn.Linear(a, 4 * b)
        self.skip = nn.Conv2d(seen * b, b, 1) if seen else None
        self.refine = nn.Conv2d(b, b, 3, padding=1)

    def look(self, *seen: Tensor) -> Tensor:
        """Maps (M, b, 2i, 2j), as many as was said, as one."""
        assert self.skip is not None, "a stage that sees nothing"
        return self.skip(torch.cat(seen, dim=1))

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        """``beside`` (M, b, 2i, 2j) is what :meth:`look` found."""
        x = rearrange(self.enlarge(x), "m i j (a b c) -> m (i a) (j b) c", a=2, b=2)
        x = x.permute(0, 3, 1, 2)  # channels stay last in memory: else `enlarge` copies its weight
        if beside is not None:
            x = x + beside
        x = F.gelu(x)
        return F.gelu(self.refine(x) + x).permute(0, 2, 3, 1)


class Painter(nn.Module):
    """Tokens (M, (h/p)(w/p), D) and pictures that may be copied from -> the next pictures."""

    places: Tensor
    pixel: Tensor  # right and down

    READ = (3, 5, 2, 2)  # numbers per pixel: paint, shares, flow, heights

    def __init__(self, size: tuple[int, int], patch: int, width: int, channels: list[int]) -> None:
        """``channels`` of the views' maps, at h/2 first and h/p last."""
        super().__init__()
        self.grid = size[0] // patch, size[1] // patch
        self.register_buffer("places", pixel_places(size), persistent=False)
        pixel = FLOW_SCALE * torch.tensor([2 / size[1], 2 / size[0]])[:, None, None]
        self.register_buffer("pixel", pixel, persistent=False)
        stages = [width, *reversed(channels[:-1])]  # coarse to fine
        self.stages = nn.ModuleList(Stage(a, b, seen=5) for a, b in itertools.pairwise(stages))
        self.compare = nn.Conv2d(4 * 3 * 5, stages[-1], 3, padding=1)
        self.judge = nn.Conv2d(stages[-1], stages[-1], 3, padding=1)
        self.read = nn.Conv2d(stages[-1], 4 * sum(self.READ), 3, padding=1)
        for layer in (self.judge, self.read):
            nn.init.zeros_(layer.weight)
        start = torch.zeros(4, sum(self.READ))
        start[:, 3] = 2.0  # most of a picture stays as it is
        self.read.bias = nn.Parameter(start.flatten())

    def forward(self, tokens: Tensor, sights: Sights) -> Tensor:
        """Pictures (M, 3, h, w) in [-1, 1], in and out."""
        return self.draw(tokens, sights, self.look(sights))

    def look(self, sights: Sights) -> Glance:
        """What is the same however often :meth:`draw` is called."""
        seen, motion, body, other, maps = sights
        found = [
            cast(Stage, stage).look(*level)
            for stage, level in zip(self.stages, reversed(maps), strict=True)
        ]
        there = sample(seen, motion(seen.new_zeros(len(seen), *seen.shape[-2:])).grid)
        parts = *there.chunk(2), body, *other.chunk(2)
        beside = torch.cat([x.to(self.compare.weight.dtype) for x in parts], dim=1)
        beside = rearrange(beside, "m c (i a) (j b) -> m (c a b) i j", a=2, b=2)
        return Glance(found, self.judge(F.gelu(self.compare(beside))))

    def draw(self, tokens: Tensor, sights: Sights, glance: Glance) -> Tensor:
        """The next pictures, as the tokens tell."""
        seen, motion, body, *_ = sights
        x = rearrange(tokens, "m (i j) d -> m i j d", i=self.grid[0])
        for stage, beside in zip(self.stages, glance.beside, strict=True):
            x = stage(x, beside)
        x = x.permute(0, 3, 1, 2) + glance.compared
        out = rearrange(self.read(x), "m (a b c) i j -> m (i a) (j b) c", a=2, b=2)
        out = out.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        paint, shares, flow, height = out.split(self.READ, dim=1)
        moved = sample(seen[: len(x)], torch.addcmul(self.places, flow, self.pixel))
        there = motion(HEIGHT_SCALE * height.transpose(0, 1).flatten(0, 1))
        turned, old = sample(seen, there.grid).chunk(2)
        latest, first = ((~there.inside).to(shares.dtype) * HIDDEN).chunk(2)
        a, b, c, d, e = shares.unbind(dim=1)
        shares = torch.stack([a, b - first, c, d, e - latest], dim=1).softmax(dim=1)
        parts = moved, old, body, paint, turned
        out = torch.zeros_like(paint)
        for share, part in zip(shares.split(1, dim=1), parts, strict=True):
            out = torch.addcmul(out, share, part)
        return out
