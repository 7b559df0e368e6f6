"""What the next picture of each camera may be copied from, or be compared with.

The latest observation and the first one, either from the pose that the robot had then; the robot's
own picture in the pose that it takes; and, for each camera, what another one has seen in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from worldmodel.cameras import Cameras, Motion, Seen, Stand, transfer

HEIGHT_SCALE = 0.05  # m above the plane, of what is read as 1


class View(NamedTuple):
    """Pictures of one camera each, and the maps that a network made of them, or made them from."""

    pictures: Tensor  # (M, 3, h, w) in [-1, 1]
    maps: list[Tensor]  # (M, c, h/2, w/2), (M, c, h/4, w/4), …


class Source(NamedTuple):
    """A view from another pose, and how to find one's way there."""

    view: View
    motion: Motion


class Sights(NamedTuple):
    """All of it, for every camera."""

    latest: Source
    first: Source
    body: View
    others: tuple[View, ...]  # of another camera, in their places


def gather(
    cameras: Cameras, latest: View, first: View, body: View, before: Tensor, began: Tensor,
    pose: Tensor,
) -> Sights:  # fmt: skip
    """What is seen from ``pose``; the robot was at ``before`` for the latest observation and at
    ``began`` for the first. Poses (M, P) in env units, views of M C pictures."""
    M, C = len(pose), len(cameras.other)
    level = pose.new_zeros(M * C, *body.pictures.shape[-2:])
    here = cameras.stand(pose)
    stood = [cameras.stand(then) for then in (before, began)]

    def other(view: View, then: Mapping[str, Stand]) -> View:
        """For each camera what another saw, in its place."""
        find = cameras.across(then, here)
        ground, above = find(level), find(level + HEIGHT_SCALE)

        def there(x: Tensor, seen: Seen) -> Tensor:
            x = x.unflatten(0, (M, C))
            x = torch.stack([x[:, j] for j in cameras.other], 1)
            return transfer(x.flatten(0, 1), seen)

        return View(there(view.pictures, above), [there(m, ground) for m in view.maps])

    views = latest, first
    near, far = (Source(v, cameras.reproject(s, here)) for v, s in zip(views, stood, strict=True))
    others = tuple(other(v, s) for v, s in zip(views, stood, strict=True))
    return Sights(near, far, body, others)
