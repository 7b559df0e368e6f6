"""What the next picture of each camera may be copied from, or be compared with.

The latest observation and the first one, either from the pose that the robot had then; the robot's
own picture in the pose that it takes; and, for each camera, what another one has seen in its place.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from worldmodel.cameras import Cameras, Motion, sample, transfer

HEIGHT_SCALE = 0.05  # m above the plane, of what is read as 1


class View(NamedTuple):
    """Pictures of one camera each, and the maps that a network made of them, or made them from."""

    pictures: Tensor  # (M, 3, h, w) in [-1, 1]
    maps: list[Tensor]  # (M, c, h/2, w/2), (M, c, h/4, w/4), …


class Sights(NamedTuple):
    """All of it, for every camera; of both observations the latest comes first, then the first."""

    seen: Tensor  # (2 M C, 3, h, w) pictures in [-1, 1]
    motion: Motion  # from heights (2 M C, h, w) at the pose to places in them
    body: Tensor  # (M C, 3, h, w)
    other: Tensor  # (2 M C, 3, h, w), of another camera, in their places
    #: fine to coarse, of the same five: both observations, the robot, both from another camera
    maps: list[list[Tensor]]  # (M C, c, i, j) each


def gather(
    cameras: Cameras, latest: View, first: View, body: View, before: Tensor, began: Tensor,
    pose: Tensor,
) -> Sights:  # fmt: skip
    """What is seen from ``pose``; the robot was at ``before`` for the latest observation and at
    ``began`` for the first. Poses (M, P) in env units, views of M C pictures."""
    C = len(cameras.other)
    pictures = torch.cat([latest.pictures, first.pictures])
    then = cameras.stand(torch.cat([before, began]))
    here = cameras.stand(pose.repeat(2, 1))
    level = pose.new_zeros(len(pictures), *pictures.shape[-2:])
    find = cameras.across(then, here)
    ground, above = find(level), find(level + HEIGHT_SCALE)
    into = torch.arange(0, len(pictures), C, device=pose.device)[:, None] + cameras.others
    into = into.flatten()
    other = sample(pictures.index_select(0, into), above.grid) * above.inside[:, None]
    pairs = list(zip(latest.maps, first.maps, strict=True))
    there = transfer(pairs, ground, into[: len(into) // 2])
    maps = [
        [*mine, robot, *theirs] for mine, robot, theirs in zip(pairs, body.maps, there, strict=True)
    ]
    return Sights(pictures, cameras.reproject(then, here), body.pictures, other, maps)
