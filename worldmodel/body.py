"""The robot's own picture: what the cameras show when it stands in a given pose.

A visual model of one's own body [Chen et al. 2022, arXiv 2111.06389], here from proprioception to
pictures. Where the robot is follows from its own numbers, so it need not be carried from picture to
picture, where it would wear away; whatever else moves can't be known from them, and stays faint.
Behind the robot a camera that it carries sees the ground, which no network draws as sharply from
the pose as the calibration finds it again.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldmodel.cameras import Cameras, Ground
from worldmodel.painter import Stage
from worldmodel.sights import View
from worldmodel.spec import DataSpec
from worldmodel.tokens import WAVES, waves


class Body(nn.Module):
    """Pose (M, P) -> the pictures of all C cameras, and the maps behind them."""

    def __init__(
        self, spec: DataSpec, cameras: Cameras, patch: int, width: int, channels: list[int]
    ) -> None:
        """``channels`` of the maps, at h/2 first and h/p last, as the stem's."""
        super().__init__()
        size, P = spec.image_size, spec.P
        self.grid = size[0] // patch, size[1] // patch
        self.ground = Ground(spec, cameras) if cameras.moving.any() else None
        self.cameras = cameras
        cells, coarse = len(spec.cameras) * self.grid[0] * self.grid[1], width // 8
        self.pose = nn.Sequential(
            nn.Linear(P + 2 * WAVES * P, width), nn.GELU(),
            nn.Linear(width, width), nn.GELU(),
            nn.Linear(width, cells * coarse),
        )  # fmt: skip
        stages = [coarse, *reversed(channels[:-1])]
        self.stages = nn.ModuleList(Stage(a, b) for a, b in itertools.pairwise(stages))
        self.read = nn.Conv2d(stages[-1], 4 * 4, 3, padding=1)  # colour, and the robot's share

    def forward(self, pose: Tensor, proprio: Tensor) -> View:
        """Pictures (M C, 3, h, w), camera by camera, and maps (M C, c, h/2, w/2), …; ``proprio``
        (M, P) is the pose in the env's units."""
        x = F.gelu(self.pose(torch.cat([pose, waves(pose)], dim=-1)))
        i, j = self.grid
        x = rearrange(x, "m (k i j d) -> (m k) i j d", k=len(self.cameras.names), i=i, j=j)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.insert(0, x.permute(0, 3, 1, 2))
        out = rearrange(self.read(maps[0]), "m (c a b) i j -> m c (i a) (j b)", a=2, b=2).float()
        drawn, share = out.split((3, 1), dim=1)
        if self.ground is None:
            return View(drawn, maps)
        still = ~self.cameras.moving.repeat(len(pose))[:, None, None, None]
        share = torch.where(still, 1.0, share.sigmoid())
        return View(share * drawn + (1 - share) * self.ground(proprio), maps)
