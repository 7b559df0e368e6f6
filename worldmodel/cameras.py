"""Where calibrated cameras look: what the robot's own motion does to their pictures.

A camera on the hand sees everything move with every step, and the motion is known: the hand's pose
is in proprioception, and the hand-eye calibration (spec.Mount) says how the camera sits on it. So a
picture from another pose is a reprojection [as in Zhou et al. 2017, arXiv 1704.07813], of what lies
in a plane or a given height above it. For a camera that stands still it is the picture itself. And
what one camera sees has its place in the picture of another, which may not have seen it yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.spec import DataSpec, Mount

NEAR = 1e-3  # of directions and depths: what is less is behind the camera, or beyond the horizon


class Seen(NamedTuple):
    """Where pixels of one picture are in another."""

    grid: Tensor  # (M, h, w, 2) -1 … 1 right and down, as grid_sample takes it
    inside: Tensor  # (M, h, w) bool, whether they are in it at all


class Camera(nn.Module):
    """One calibrated camera, on the robot or in the room."""

    rays: Tensor
    inverse: Tensor
    directions: Tensor
    offset: Tensor

    def __init__(self, mount: Mount, size: tuple[int, int]) -> None:
        super().__init__()
        self.mount = mount
        rays = torch.tensor(mount.rays, dtype=torch.float64).view(3, 3)
        pixels = torch.cat([pixel_places(size), torch.ones(*size, 1)], dim=-1).double()
        self.register_buffer("rays", rays.float(), persistent=False)
        self.register_buffer("inverse", rays.inverse().float(), persistent=False)
        self.register_buffer("directions", (pixels @ rays.T).float(), persistent=False)
        self.register_buffer("offset", torch.tensor(mount.offset), persistent=False)

    def pose(self, proprio: Tensor) -> tuple[Tensor, Tensor]:
        """(M, P) -> the camera's centre (M, 3), and its frame's rotation (M, 3, 3)."""
        mount = self.mount
        if not mount.moves:
            turn = torch.eye(3, device=proprio.device).expand(len(proprio), 3, 3)
            return self.offset.expand(len(proprio), 3), turn
        x, y = (_unit(_columns(proprio, axis)) for axis in (mount.x_axis, mount.y_axis))
        turn = torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)
        return _columns(proprio, mount.position) + turn @ self.offset, turn

    def places(self, proprio: Tensor, height: Tensor) -> tuple[Tensor, Tensor]:
        """(M, P) and a height (M, h, w) above the plane -> what the pixels show there (M, h, w, 3),
        and whether they look down on it at all (M, h, w)."""
        centre, turn = self.pose(proprio)
        centre = centre[:, None, None]
        ray = (self.directions.flatten(0, 1) @ turn.mT).unflatten(1, height.shape[1:])
        fall = ray[..., 2]
        far = (height - centre[..., 2]) / fall.clamp(max=-NEAR)
        places = centre + far.clamp(min=0)[..., None] * ray
        return places, (fall < -NEAR) & (far > 0)

    def pixels(self, proprio: Tensor, places: Tensor) -> Seen:
        """Where (M, h, w, 3) are in the picture taken at (M, P)."""
        centre, turn = self.pose(proprio)
        into = turn @ self.inverse.T  # a row vector times this: first the frame, then the pixels
        ahead = ((places - centre[:, None, None]).flatten(1, 2) @ into).unflatten(
            1, places.shape[1:3]
        )
        depth = ahead[..., 2]
        grid = ahead[..., :2] / depth[..., None].clamp(min=NEAR)
        return Seen(grid, (depth > NEAR) & (grid.abs().amax(dim=-1) <= 1))


class Cameras(nn.Module):
    """All C cameras of a spec; M C pictures stand camera by camera for each of M poses."""

    still: Tensor
    moving: Tensor

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.names, size = spec.cameras, spec.image_size
        self.eyes = nn.ModuleDict({k: Camera(m, size) for k, m in spec.mounts.items()})
        moving = torch.tensor([self.carried(name) is not None for name in spec.cameras])
        self.register_buffer("still", pixel_places(size), persistent=False)
        self.register_buffer("moving", moving, persistent=False)
        # the camera whose picture may show what another will see: the next calibrated one
        known = [i for i, name in enumerate(self.names) if name in self.eyes]
        self.other = list(range(len(self.names)))
        for i, j in zip(known, known[1:] + known[:1], strict=True):
            self.other[i] = j

    def eye(self, name: str) -> Camera | None:
        """The camera of this name where it is calibrated."""
        return cast(Camera, self.eyes[name]) if name in self.eyes else None

    def carried(self, name: str) -> Camera | None:
        """The camera of this name where it is calibrated and on the robot."""
        eye = self.eye(name)
        return eye if eye is not None and eye.mount.moves else None

    def reproject(self, old: Tensor, new: Tensor, height: Tensor) -> Seen:
        """Where what is seen from the pose ``new`` (M, P) was in the pictures of ``old`` (M, P), if
        it lies ``height`` (M C, h, w) above the plane."""

        def find(i: int, level: Tensor) -> Seen:
            eye = self.carried(self.names[i])
            return self._same(level) if eye is None else _found(eye, new, eye, old, level)

        return self._each(find, len(new), height)

    def across(self, old: Tensor, new: Tensor, height: Tensor) -> Seen:
        """The same in the pictures of each camera's ``other``; outside where there is none."""

        def find(i: int, level: Tensor) -> Seen:
            j = self.other[i]
            eye, other = self.eye(self.names[i]), self.eye(self.names[j])
            if i == j or eye is None or other is None:
                return Seen(self._same(level).grid, torch.zeros_like(level, dtype=torch.bool))
            return _found(eye, new, other, old, level)

        return self._each(find, len(new), height)

    def _each(self, find: Callable[[int, Tensor], Seen], poses: int, height: Tensor) -> Seen:
        height = height.unflatten(0, (poses, len(self.names)))
        with torch.autocast(height.device.type, enabled=False):
            parts = [find(i, height[:, i]) for i in range(len(self.names))]
        grid, inside = (torch.stack(x, dim=1).flatten(0, 1) for x in zip(*parts, strict=True))
        return Seen(grid, inside)

    def _same(self, level: Tensor) -> Seen:
        inside = torch.ones_like(level, dtype=torch.bool)
        return Seen(self.still.expand(len(level), -1, -1, -1), inside)


def _found(eye: Camera, new: Tensor, other: Camera, old: Tensor, height: Tensor) -> Seen:
    """Where ``other`` saw, at ``old``, what ``eye`` sees from ``new``."""
    places, below = eye.places(new, height)
    grid, inside = other.pixels(old, places)
    return Seen(grid, inside & below)


class Ground(nn.Module):
    """What lies in the plane, as one learned texture; the robot's cameras find it from any pose."""

    SIZE = 192  # pixels of the texture
    SCALE = 20.0  # of its numbers: one update should be able to move a colour

    low: Tensor
    high: Tensor

    def __init__(self, spec: DataSpec, cameras: Cameras) -> None:
        super().__init__()
        self.cameras = cameras
        areas = torch.tensor([mount.area for mount in spec.mounts.values() if mount.moves])
        self.register_buffer("low", areas[:, :2].amin(dim=0), persistent=False)
        self.register_buffer("high", areas[:, 2:].amax(dim=0), persistent=False)
        self.texture = nn.Parameter(torch.zeros(3, self.SIZE, self.SIZE))

    def forward(self, proprio: Tensor) -> Tensor:
        """Poses (M, P) -> pictures (M C, 3, h, w); grey where a camera is not on the robot."""
        cameras, shown = self.cameras, []
        with torch.autocast(proprio.device.type, enabled=False):
            for name in cameras.names:
                h, w = cameras.still.shape[:2]
                eye = cameras.carried(name)
                if eye is None:
                    shown.append(proprio.new_zeros(len(proprio), 3, h, w))
                    continue
                level = proprio.new_zeros(len(proprio), h, w)
                places = eye.places(proprio, level)[0][..., :2]
                grid = 2 * (places - self.low) / (self.high - self.low) - 1
                grid = grid.flatten(0, 1)[None]  # one long picture: the texture is not copied
                found = F.grid_sample(
                    self.SCALE * self.texture[None], grid, padding_mode="border",
                    align_corners=False,
                )  # fmt: skip
                shown.append(found[0].unflatten(1, (-1, h)).transpose(0, 1))
        return torch.stack(shown, dim=1).flatten(0, 1)


def pixel_places(size: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """(h, w, 2) of pixels' centres, -1 … 1 right and down."""
    h, w = size
    rows, columns = ((torch.arange(n, device=device) + 0.5) * 2 / n - 1 for n in (h, w))
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)


def _columns(x: Tensor, which: Sequence[int]) -> Tensor:
    """``x[:, which]`` without a list for the GPU to wait for."""
    return torch.stack([x[:, i] for i in which], dim=-1)


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm(dim=-1, keepdim=True).clamp(min=NEAR)


def transfer(maps: Tensor, seen: Seen) -> Tensor:
    """Maps (M, c, i, j) of one camera at their places in the picture of another; 0 elsewhere.

    Nothing is learned through them.
    """
    size = maps.shape[-2:]
    grid = F.interpolate(seen.grid.permute(0, 3, 1, 2), size, mode="bilinear").permute(0, 2, 3, 1)
    inside = F.interpolate(seen.inside[:, None].float(), size, mode="bilinear")
    found = F.grid_sample(
        maps.detach().float(), grid, padding_mode="border", align_corners=False
    )  # bf16 takes twice the time
    return (found * inside).to(maps.dtype)
