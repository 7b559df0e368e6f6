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
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

FLOW_SCALE = 4.0  # pixels, of a displacement that is read as 1


class View(NamedTuple):
    """Pictures of one camera each, and what the stem made of them."""

    pictures: Tensor  # (M, 3, h, w) in [-1, 1]
    maps: list[Tensor]  # (M, c, h/2, w/2), (M, c, h/4, w/4), …


class Painter(nn.Module):
    """Tokens (M, (h/p)(w/p), D), the latest and the first pictures -> the next pictures."""

    READ = (3, 3, 2)  # numbers per pixel: paint, shares, flow

    def __init__(self, size: tuple[int, int], patch: int, width: int, channels: list[int]) -> None:
        """``channels`` of the stem's maps, at h/2 first and h/p last."""
        super().__init__()
        self.grid = size[0] // patch, size[1] // patch
        stages = [width, *reversed(channels[:-1])]  # coarse to fine
        self.enlarge = nn.ModuleList(nn.Linear(a, 4 * b) for a, b in itertools.pairwise(stages))
        self.skip = nn.ModuleList(nn.Conv2d(2 * c, c, 1) for c in stages[1:])
        self.refine = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for c in stages[1:])
        self.read = nn.Conv2d(stages[-1], 4 * sum(self.READ), 3, padding=1)
        nn.init.zeros_(self.read.weight)
        start = torch.zeros(4, sum(self.READ))
        start[:, 3] = 2.0  # most of a picture stays as it is
        self.read.bias = nn.Parameter(start.flatten())

    def forward(self, tokens: Tensor, latest: View, first: View) -> Tensor:
        """Pictures (M, 3, h, w) in [-1, 1], in and out."""
        x = rearrange(tokens, "m (i j) d -> m i j d", i=self.grid[0])
        maps = [torch.cat(pair, dim=1) for pair in zip(latest.maps, first.maps, strict=True)]
        stages = zip(self.enlarge, self.skip, self.refine, reversed(maps[:-1]), strict=True)
        for enlarge, skip, refine, seen in stages:
            x = rearrange(enlarge(x), "m i j (a b c) -> m c (i a) (j b)", a=2, b=2)
            x = F.gelu(x + skip(seen), approximate="tanh")
            x = F.gelu(refine(x) + x, approximate="tanh").permute(0, 2, 3, 1)
        out = self.read(x.permute(0, 3, 1, 2)).float()
        out = rearrange(out, "m (a b c) i j -> m c (i a) (j b)", a=2, b=2)
        paint, shares, flow = out.split(self.READ, dim=1)
        moved = move(latest.pictures, FLOW_SCALE * flow.permute(0, 2, 3, 1))
        share = shares.softmax(dim=1)[:, :, None]
        return share[:, 0] * moved + share[:, 1] * first.pictures + share[:, 2] * paint


def move(images: Tensor, flow: Tensor) -> Tensor:
    """(M, 3, h, w) seen at displaced places: ``flow`` (M, h, w, 2) right and down, in pixels."""
    h, w = images.shape[-2:]
    size = torch.tensor([w, h], device=flow.device)
    rows = torch.arange(h, device=flow.device) + 0.5
    columns = torch.arange(w, device=flow.device) + 0.5
    place = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
    grid = 2 * (place + flow) / size - 1
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
