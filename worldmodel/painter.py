"""From tokens back to pixels: what to copy from the latest picture, from where, and what to paint.

The stem's way in reverse: a token becomes four cells, those sixteen, up to half the resolution, and
at each stage the stem's own map of the latest observation comes in beside it, as in a U-Net
[Ronneberger et al. 2015, arXiv 1505.04597]. Every pixel of the next picture is then a mixture of
one that has moved (copied along a flow, as in [Finn et al. 2016, arXiv 1605.07157]) and a painted
one. What stands still or moves as a whole stays sharp at any horizon.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

FLOW_SCALE = 4.0  # pixels, of a displacement that is read as 1


class Painter(nn.Module):
    """Tokens (M, (h/p)(w/p), D) and the maps of the latest pictures -> the next pictures."""

    def __init__(self, size: tuple[int, int], patch: int, width: int, channels: list[int]) -> None:
        """``channels`` of the stem's maps, at h/2 first and h/p last."""
        super().__init__()
        self.grid = size[0] // patch, size[1] // patch
        stages = [width, *reversed(channels[:-1])]  # coarse to fine
        self.enlarge = nn.ModuleList(nn.Linear(a, 4 * b) for a, b in itertools.pairwise(stages))
        self.skip = nn.ModuleList(nn.Conv2d(c, c, 1) for c in stages[1:])
        self.refine = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for c in stages[1:])
        self.read = nn.Conv2d(stages[-1], 4 * 6, 3, padding=1)
        nn.init.zeros_(self.read.weight)
        start = torch.zeros(4, 6)
        start[:, 3] = 1.0  # most of a picture stays as it is
        self.read.bias = nn.Parameter(start.flatten())

    def forward(self, tokens: Tensor, maps: list[Tensor], latest: Tensor) -> Tensor:
        """``latest`` (M, 3, h, w) in [-1, 1]; returns the same of the next."""
        x = rearrange(tokens, "m (i j) d -> m i j d", i=self.grid[0])
        stages = zip(self.enlarge, self.skip, self.refine, reversed(maps[:-1]), strict=True)
        for enlarge, skip, refine, seen in stages:
            x = rearrange(enlarge(x), "m i j (a b c) -> m c (i a) (j b)", a=2, b=2)
            x = F.gelu(x + skip(seen), approximate="tanh")
            x = F.gelu(refine(x) + x, approximate="tanh").permute(0, 2, 3, 1)
        out = self.read(x.permute(0, 3, 1, 2)).float()
        out = rearrange(out, "m (a b c) i j -> m (i a) (j b) c", a=2, b=2, c=6)
        paint, keep, flow = out.split([3, 1, 2], dim=-1)
        moved = move(latest, FLOW_SCALE * flow)
        paint, keep = paint.permute(0, 3, 1, 2), keep.permute(0, 3, 1, 2).sigmoid()
        return paint + keep * (moved - paint)


def move(images: Tensor, flow: Tensor) -> Tensor:
    """(M, 3, h, w) seen at displaced places: ``flow`` (M, h, w, 2) right and down, in pixels."""
    h, w = images.shape[-2:]
    size = torch.tensor([w, h], device=flow.device)
    rows = torch.arange(h, device=flow.device) + 0.5
    columns = torch.arange(w, device=flow.device) + 0.5
    place = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
    grid = 2 * (place + flow) / size - 1
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
