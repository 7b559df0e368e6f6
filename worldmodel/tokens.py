"""Observations and actions as tokens, and back.

An observation becomes C (h/p)(w/p) patch tokens, cameras in the spec's order and rows first, and
one proprioception token. Noise lives in patch space: a patch is p x p x 3 numbers in [-1, 1].
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldmodel.layers import begin_by_he

WAVES = 5  # octaves


def patchify(images: Tensor, patch: int) -> Tensor:
    """(..., C, h, w, 3) -> (..., C (h/p)(w/p), p p 3)."""
    return rearrange(
        images, "... k (i p) (j q) c -> ... (k i j) (p q c)", p=patch, q=patch
    )  # fmt: skip


def unpatchify(patches: Tensor, cameras: int, size: tuple[int, int], patch: int) -> Tensor:
    """Inverse of :func:`patchify` for images of ``size`` (h, w)."""
    return rearrange(
        patches, "... (k i j) (p q c) -> ... k (i p) (j q) c",
        k=cameras, i=size[0] // patch, p=patch, q=patch,
    )  # fmt: skip


def grid_positions(cameras: int, size: tuple[int, int], patch: int) -> Tensor:
    """(N + 1, 2) row and column of an observation's tokens; proprioception sits at (0, 0)."""
    rows, columns = size[0] // patch, size[1] // patch
    grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    return torch.cat([grid.repeat(cameras, 1), torch.zeros(1, 2, dtype=grid.dtype)])


class PatchStem(nn.Module):
    """Strided convolutions from pixels to one token per patch.

    They localise small objects far better than a linear embedding of whole patches does.
    """

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        stages = int(math.log2(patch))
        if 2**stages != patch:
            raise ValueError(f"patch must be a power of two, got {patch}; choose 4, 8 or 16")
        channels = [3] + [max(32, width // 2 ** (stages - 1 - i)) for i in range(stages)]
        self.channels = channels[1:]  # of the maps, finest first
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in itertools.pairwise(channels)
        )
        self.project = nn.Linear(channels[-1], width)
        begin_by_he(self.convolutions)
        nn.init.normal_(self.project.weight, std=channels[-1] ** -0.5)

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(M, 3, h, w) float -> tokens (M, (h/p)(w/p), D) and the maps (M, c, h/2, w/2), (M, c,
        h/4, w/4), … on the way there, all but the last."""
        x, maps = images.contiguous(memory_format=torch.channels_last), []
        for convolution in self.convolutions:
            x = F.gelu(convolution(x))
            maps.append(x)
        return self.project(x.flatten(2).transpose(1, 2)), maps[:-1]


def embed_vector(size: int, width: int) -> nn.Sequential:
    """A vector (…, size) as one token (…, D)."""
    return nn.Sequential(nn.Linear(size, width), nn.GELU(), nn.Linear(width, width))


def waves(x: Tensor) -> Tensor:
    """(…, n) -> (…, 2 WAVES n): sines and cosines of octaves, from a period of 6.3 down to 0.4.

    Pictures change fast with the robot's pose, and a network learns that slowly from the plain
    numbers [Tancik et al. 2020, arXiv 2006.10739].
    """
    octaves = torch.cat([x * 2**k for k in range(WAVES)], dim=-1)
    return torch.cat([octaves.sin(), octaves.cos()], dim=-1)


def first_places(cameras: int, size: tuple[int, int], patch: int, width: int) -> Tensor:
    """(N + 1, D) where each of an observation's tokens is: smooth functions of its row and column,
    and its camera; none for proprioception, or nearly.

    Large enough that attention's values tell where from the first update on; small random vectors
    had to be learned first (docs/log.md, 2026-11-28).
    """
    grid = grid_positions(1, size, patch)[:-1].float()
    grid = 2 * grid / grid.amax(0).clamp(min=1) - 1
    phases = [math.pi / 2 * 2**k * grid for k in range(3)]
    curves = torch.cat([grid, *(f(x) for x in phases for f in (torch.sin, torch.cos))], dim=1)
    where = 0.5 * curves @ torch.randn(curves.shape[1], width) / curves.shape[1] ** 0.5
    patches = (where + 0.25 * torch.randn(cameras, 1, width)).flatten(0, 1)
    return torch.cat([patches, 0.02 * torch.randn(1, width)])


class ObservationEmbedding(nn.Module):
    """An observation's tokens: pixels, clean or noisy, through the stem, and one vector."""

    def __init__(self, cameras: int, size: tuple[int, int], patch: int, width: int) -> None:
        super().__init__()
        self.cameras, self.size, self.patch = cameras, size, patch
        self.stem = PatchStem(patch, width)
        # one vector per camera and place: attention's values must say where, not only its scores
        self.place = nn.Parameter(first_places(cameras, size, patch, width))

    def forward(self, patches: Tensor, vector: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(M, N, p p 3) and an embedded vector (M, D) -> (M, N + 1, D), and the stem's maps."""
        pixels, maps = self._stem(patches)
        pixels = rearrange(pixels, "(m k) n d -> m (k n) d", k=self.cameras)
        return torch.cat([pixels, vector[:, None]], dim=1) + self.place, maps

    def maps(self, patches: Tensor) -> list[Tensor]:
        """(M, N, p p 3) -> the stem's maps alone, (M, C, c, h', w') each."""
        return self._stem(patches)[1]

    def _stem(self, patches: Tensor) -> tuple[Tensor, list[Tensor]]:
        images = unpatchify(patches, self.cameras, self.size, self.patch)
        pixels, maps = self.stem(rearrange(images, "m k h w c -> (m k) c h w"))
        return pixels, [m.unflatten(0, (-1, self.cameras)) for m in maps]
