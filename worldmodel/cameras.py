"""Where calibrated cameras look: what the robot's own motion does to their pictures.

A camera on the hand sees everything move with every step, and the motion is known: the hand's pose
is in proprioception, and the hand-eye calibration (spec.Mount) says how the camera sits on it. So a
picture from another pose is a reprojection [as in Zhou et al. 2017, arXiv 1704.07813], of what lies
in a plane or a given height above it. For a camera that stands still it is the picture itself. And
what one camera sees has its place in the picture of another, which may not have seen it yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.spec import DataSpec, Mount

NEAR = 1e-3  # of directions and depths: what is less is behind the camera, or beyond the horizon


class Seen(NamedTuple):
    """Where pixels of one picture are in another."""

    grid: Tensor  # (M, 2, h, w) -1 … 1 right and down
    inside: Tensor  # (M, h, w) bool, whether they are in it at all


#: heights (M, h, w) above the plane -> where what lies there was seen before
Motion = Callable[[Tensor], Seen]


class Stand(NamedTuple):
    """Where a camera stands, in each of M poses."""

    centre: Tensor  # (M, 3)
    turn: Tensor  # (M, 3, 3) the rotation of the frame that carries it


class Rays(NamedTuple):
    """The pixels' lines of sight, in the coordinates of whoever asks."""

    start: Tensor  # (M, 3, 1, 1)
    along: Tensor  # (M, 3, h, w)
    top: Tensor  # (M, 1, 1) height of the start above the plane
    slope: Tensor  # (M, h, w) how far along them one comes for each metre of height, negative
    down: Tensor  # (M, h, w) bool, whether they fall at all

    def at(self, height: Tensor) -> tuple[Tensor, Tensor]:
        """The points (M, 3, h, w) in which they are at a ``height`` (M, h, w) above the plane, and
        whether they ever are (M, h, w)."""
        far = (height - self.top) * self.slope
        points = torch.addcmul(self.start, far.clamp(min=0)[:, None], self.along)
        return points, self.down & (far > 0)


class Camera(nn.Module):
    """One calibrated camera, on the robot or in the room."""

    columns: Tensor
    inverse: Tensor
    directions: Tensor
    offset: Tensor

    def __init__(self, mount: Mount, size: tuple[int, int]) -> None:
        super().__init__()
        self.mount, self.size = mount, size
        rays = torch.tensor(mount.rays, dtype=torch.float64).view(3, 3)
        pixels = torch.cat([pixel_places(size), torch.ones(1, *size)]).double().flatten(1)
        columns = torch.tensor([*mount.position, *mount.x_axis, *mount.y_axis], dtype=torch.long)
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("inverse", rays.inverse().float(), persistent=False)
        directions = (rays @ pixels).float()
        self.register_buffer("directions", directions, persistent=False)
        self.register_buffer("offset", torch.tensor(mount.offset), persistent=False)

    def stand(self, proprio: Tensor) -> Stand:
        """Where it is when the robot is at (M, P)."""
        M = len(proprio)
        if not self.mount.moves:
            turn = torch.eye(3, device=proprio.device).expand(M, 3, 3)
            return Stand(self.offset.expand(M, 3), turn)
        told = proprio.index_select(1, self.columns).unflatten(1, (3, 3))
        axes = told[:, 1:]
        axes = axes / axes.norm(dim=-1, keepdim=True).clamp(min=NEAR)
        x, y = axes.unbind(1)
        turn = torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)
        return Stand(told[:, 0] + turn @ self.offset, turn)

    def rays(self, stand: Stand, origin: Tensor, into: Tensor) -> Rays:
        """Its lines of sight in the coordinates (v - ``origin``) @ ``into`` of places v: (M, 3) and
        (M, 3, 3)."""
        world = stand.turn.mT
        both = torch.cat([world @ into, world[..., 2:]], dim=-1)  # one product for all pixels
        along, fall = (both.mT @ self.directions).unflatten(2, self.size).split((3, 1), dim=1)
        start = ((stand.centre - origin)[:, None] @ into).mT[..., None]
        fall = fall[:, 0]
        slope = fall.clamp(max=-NEAR).reciprocal()
        return Rays(start, along, stand.centre[:, 2, None, None], slope, fall < -NEAR)

    def look_up(self, other: Camera, old: Stand, new: Stand) -> Motion:
        """Where ``other`` saw, from ``old``, what this camera sees from ``new``."""
        with torch.autocast(old.turn.device.type, enabled=False):
            rays = self.rays(new, old.centre, old.turn @ other.inverse.T)  # other's own frame

        def find(height: Tensor) -> Seen:
            ahead, there = rays.at(height)
            depth = ahead[:, 2]
            grid = ahead[:, :2] / depth[:, None].clamp(min=NEAR)
            return Seen(grid, there & (depth > NEAR) & (grid.abs().amax(dim=1) <= 1))

        return find


class Cameras(nn.Module):
    """All C cameras of a spec; M C pictures stand camera by camera for each of M poses."""

    still: Tensor
    moving: Tensor
    others: Tensor

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
        self.register_buffer("others", torch.tensor(self.other), persistent=False)

    def eye(self, name: str) -> Camera | None:
        """The camera of this name where it is calibrated."""
        return cast(Camera, self.eyes[name]) if name in self.eyes else None

    def carried(self, name: str) -> Camera | None:
        """The camera of this name where it is calibrated and on the robot."""
        eye = self.eye(name)
        return eye if eye is not None and eye.mount.moves else None

    def stand(self, proprio: Tensor) -> dict[str, Stand]:
        """Where each calibrated camera is when the robot is at (M, P), by name."""
        with torch.autocast(proprio.device.type, enabled=False):
            return {name: cast(Camera, eye).stand(proprio) for name, eye in self.eyes.items()}

    def reproject(self, old: Mapping[str, Stand], new: Mapping[str, Stand]) -> Motion:
        """Where what is seen from ``new`` was in the pictures of ``old``, if it lies at heights
        (M C, h, w) above the plane."""
        ways: list[Motion] = []
        for name in self.names:
            eye = self.carried(name)
            way = self._same if eye is None else eye.look_up(eye, old[name], new[name])
            ways.append(way)
        return partial(self._each, ways)

    def across(self, old: Mapping[str, Stand], new: Mapping[str, Stand]) -> Motion:
        """The same in the pictures of each camera's ``other``; outside where there is none."""
        ways: list[Motion] = []
        for i, name in enumerate(self.names):
            there = self.names[self.other[i]]
            eye, other = self.eye(name), self.eye(there)
            if name == there or eye is None or other is None:
                ways.append(self._nowhere)
            else:
                ways.append(eye.look_up(other, old[there], new[name]))
        return partial(self._each, ways)

    def _each(self, ways: Sequence[Motion], height: Tensor) -> Seen:
        levels = height.unflatten(0, (-1, len(ways))).unbind(1)
        parts = [way(level) for way, level in zip(ways, levels, strict=True)]
        grid, inside = (torch.stack(x, dim=1).flatten(0, 1) for x in zip(*parts, strict=True))
        return Seen(grid, inside)

    def _same(self, level: Tensor) -> Seen:
        inside = torch.ones_like(level, dtype=torch.bool)
        return Seen(self.still.expand(len(level), -1, -1, -1), inside)

    def _nowhere(self, level: Tensor) -> Seen:
        return Seen(self._same(level).grid, torch.zeros_like(level, dtype=torch.bool))


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
                h, w = cameras.still.shape[1:]
                eye = cameras.carried(name)
                if eye is None:
                    shown.append(proprio.new_zeros(len(proprio), 3, h, w))
                    continue
                stand = eye.stand(proprio)
                world = torch.eye(3, device=proprio.device).expand_as(stand.turn)
                rays = eye.rays(stand, torch.zeros_like(stand.centre), world)
                places = rays.at(torch.zeros_like(rays.slope))[0][:, :2].transpose(0, 1)
                low, span = (x[:, None, None] for x in (self.low, self.high - self.low))
                # one long picture: the texture is not copied
                grid = 2 * (places.flatten(1, 2) - low) / span - 1
                found = sample(self.SCALE * self.texture[None], grid[None])
                shown.append(found[0].unflatten(1, (-1, h)).transpose(0, 1))
        return torch.stack(shown, dim=1).flatten(0, 1)


def pixel_places(size: tuple[int, int]) -> Tensor:
    """(2, h, w) of pixels' centres, -1 … 1 right and down."""
    h, w = size
    rows, columns = ((torch.arange(n) + 0.5) * 2 / n - 1 for n in (h, w))
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"))


def sample(images: Tensor, grid: Tensor) -> Tensor:
    """Pictures (M, 3, …) at the places (M, 2, h, w), -1 … 1 right and down -> (M, 3, h, w)."""
    places = grid.permute(0, 2, 3, 1)
    return F.grid_sample(images, places, padding_mode="border", align_corners=False)


def transfer(
    levels: Sequence[Sequence[Tensor]], seen: Seen, looked_into: Tensor
) -> list[list[Tensor]]:
    """Maps of k observations, (M, c, i, j) each and several resolutions of them, at the places
    ``seen`` (k M) in the pictures (M,) that are ``looked_into``; 0 elsewhere.

    Nothing is learned through them. Each of the four cells around a place is one row of c numbers,
    which a CPU finds three times faster than ``grid_sample`` finds c numbers apart (docs/log.md).
    """
    planes = torch.cat([seen.grid, seen.inside[:, None].to(seen.grid.dtype)], dim=1)
    first = looked_into.int().repeat(len(levels[0]))[
        :, None, None
    ]  # cell of each picture: times i j
    found = []
    for maps in levels:
        i, j = maps[0].shape[2:]
        across, down, inside = _cells(planes, i, j).unbind(1)
        across, down = (
            ((x.nan_to_num() + 1) * (n / 2) - 0.5).clamp(0, n - 1)  # no cell is number NaN
            for x, n in ((across, j), (down, i))
        )
        left, top = across.int(), down.int()
        cell = (first * i + top) * j + left
        right, below = (left < j - 1).int(), (top < i - 1).int() * j
        cells = torch.stack([cell, cell + right, cell + below, cell + below + right], dim=-1)
        lower = inside * down.frac()
        upper = inside - lower
        both = upper * across.frac(), lower * across.frac()
        shares = torch.stack([upper - both[0], both[0], lower - both[1], both[1]], dim=-1)
        parts = (x.flatten(0, 2).chunk(len(maps)) for x in (cells, shares.to(maps[0].dtype)))
        found.append([_gathered(*part) for part in zip(maps, *parts, strict=True)])
    return found


def _cells(planes: Tensor, i: int, j: int) -> Tensor:
    """(M, k, h, w) -> (M, k, i, j), in the middle of each cell: the mean of the four pixels there.

    It is what bilinear interpolation gives, at a seventh of its time on a CPU (docs/log.md)."""
    rows = planes.unflatten(2, (i, -1))
    n = rows.shape[3] // 2
    columns = (rows[:, :, :, n - 1] + rows[:, :, :, n]).unflatten(3, (j, -1))
    n = columns.shape[4] // 2
    return (columns[..., n - 1] + columns[..., n]) / 4


def _gathered(maps: Tensor, cells: Tensor, shares: Tensor) -> Tensor:
    """Four ``cells`` each of (M, c, i, j), by their ``shares``; both (M i j, 4)."""
    M, c, i, j = maps.shape
    rows = maps.detach().permute(0, 2, 3, 1).flatten(0, 2)
    found = F.embedding_bag(cells, rows, mode="sum", per_sample_weights=shares)
    return found.view(M, i, j, c).permute(0, 3, 1, 2)
