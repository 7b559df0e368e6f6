"""Calibrated cameras: reprojection of real pictures, and what a model makes of it."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from envs.pick_can import PickCan
from worldmodel.cameras import Cameras, Ground, Motion, Seen, sample, transfer
from worldmodel.errors import UserError
from worldmodel.normalize import images_to_float
from worldmodel.spec import DataSpec, check_compatible, spec_of_env

SIDE = 64


@pytest.fixture(scope="module")
def views() -> tuple[DataSpec, torch.Tensor, torch.Tensor]:
    """Wrist pictures (n, 3, h, w) of one table from n poses (n, P); the can is out of the way."""
    env = PickCan(image_size=SIDE)
    spec = spec_of_env(env)
    observations = []
    for seed in range(16):
        obs, _ = env.reset(seed=seed, options={"can_position": (0.65, 0.25)})
        observations.append(obs)
        for _ in range(3):
            obs, *_ = env.step(np.array([-0.5, -1, -0.6, 0.2, 0, 0.9, 0], np.float32))
        observations.append(obs)
    env.close()
    pictures = torch.from_numpy(np.stack([o["wrist"] for o in observations])).permute(0, 3, 1, 2)
    proprio = torch.from_numpy(np.stack([o["proprio"] for o in observations]))
    return spec, images_to_float(pictures), proprio


def level(cameras: Cameras, poses: int) -> torch.Tensor:
    return torch.zeros(poses * len(cameras.names), SIDE, SIDE)


def way(cameras: Cameras, old: torch.Tensor, new: torch.Tensor) -> Motion:
    return cameras.reproject(cameras.stand(old), cameras.stand(new))


def wrist(x: torch.Tensor) -> torch.Tensor:
    """Of (M C, …) those of the second camera."""
    return x[1::2]


def test_a_reprojected_picture_is_the_picture_from_the_other_pose(views) -> None:
    spec, pictures, proprio = views
    cameras = Cameras(spec)
    old, new = torch.arange(0, 12), torch.arange(0, 12).roll(1)
    seen = way(cameras, proprio[old], proprio[new])(level(cameras, 12))
    grid, inside = wrist(seen.grid), wrist(seen.inside)
    found = sample(pictures[old], grid)
    inside = inside & (grid[:, 1] < 0.3)  # of the fingers below nothing is known
    inside[:, 40:] = False
    assert inside.float().mean() > 0.15
    error = (found - pictures[new]).abs().mean(dim=1)[inside]
    beside = (sample(pictures[old], grid + 0.1) - pictures[new]).abs().mean(dim=1)[inside]
    assert error.mean() < 0.03  # of 2: edges are resampled
    assert error.mean() < 0.4 * beside.mean()  # three pixels off


def test_what_the_front_camera_sees_has_its_place_in_the_wrist_view() -> None:
    env = PickCan(image_size=SIDE)
    cameras, shown, there = Cameras(spec_of_env(env)), [], []
    for seed in range(8):
        obs, _ = env.reset(seed=seed, options={"can_position": (0.5, 0.0), "can_pose": "upright"})
        pose = torch.from_numpy(obs["proprio"])[None]
        stands = cameras.stand(pose)
        front = torch.from_numpy(obs["front"]).permute(2, 0, 1)[None].float()
        seen = cameras.across(stands, stands)(level(cameras, 1) + 0.03)
        there_in_it = Seen(wrist(seen.grid), wrist(seen.inside))
        found = transfer([[front]], there_in_it, torch.zeros(1))[0][0][0].permute(1, 2, 0)
        shown.append(red(found.numpy()))
        there.append(red(obs["wrist"]))
    env.close()
    both = [(a, b) for a, b in zip(shown, there, strict=True) if b.sum() > 20]
    assert len(both) > 3
    overlap = [(a & b).sum() / b.sum() for a, b in both]
    assert np.mean(overlap) > 0.35, overlap  # a can is no part of the plane
    other = [(a & b).sum() / b.sum() for (a, _), (_, b) in itertools.pairwise(both)]
    assert np.mean(overlap) > np.mean(other) + 0.2


def test_maps_are_found_again_as_grid_sample_finds_them() -> None:
    sides = 16, 8, 4, 2
    levels = [
        [torch.randn(4, 6, n, n).contiguous(memory_format=torch.channels_last) for _ in range(2)]
        for n in sides
    ]
    grid, inside = 2.6 * torch.rand(8, 2, 16, 16) - 1.3, torch.rand(8, 16, 16) < 0.8
    into = torch.tensor([1, 0, 3, 2])
    found = transfer(levels, Seen(grid, inside), into)
    for n, maps, got in zip(sides, levels, found, strict=True):
        places, there = (
            torch.nn.functional.interpolate(x, (n, n), mode="bilinear")
            for x in (grid, inside[:, None].float())
        )
        expected = sample(torch.cat([m[into] for m in maps]), places) * there
        torch.testing.assert_close(torch.cat(got), expected)
    nowhere = transfer(levels, Seen(torch.full_like(grid, torch.nan), inside), into)
    assert all(torch.isfinite(m).all() for maps in nowhere for m in maps)  # no other memory is read


def red(picture: np.ndarray) -> np.ndarray:
    """(h, w) bool, where the can is."""
    r, g, b = (picture[..., i].astype(float) for i in range(3))
    return (r > 90) & (r > 2 * g) & (r > 2 * b)


def test_height_is_parallax(views) -> None:
    """What stands 5 cm above the table is not where the table behind it is."""
    spec, _, proprio = views
    cameras = Cameras(spec)
    flat = level(cameras, 1)
    same = way(cameras, proprio[:1], proprio[:1])(flat + 0.05)
    torch.testing.assert_close(wrist(same.grid), cameras.still[None], atol=1e-4, rtol=0)
    apart = [way(cameras, proprio[:1], proprio[1:2])(flat + h).grid for h in (0.0, 0.05)]
    assert torch.equal(apart[0][0], apart[1][0])  # the front camera stands still
    assert (apart[0][1] - apart[1][1]).abs().median() > 0.01


def test_gradients_reach_the_height(views) -> None:
    spec, pictures, proprio = views
    cameras = Cameras(spec)
    height = level(cameras, 1).requires_grad_()
    grid = way(cameras, proprio[:1], proprio[1:2])(height).grid
    sample(pictures[:1], wrist(grid)).square().sum().backward()
    assert height.grad is not None
    assert torch.isfinite(height.grad).all()
    assert wrist(height.grad).abs().sum() > 0
    assert height.grad[0].abs().sum() == 0


def test_the_ground_is_learned_from_a_few_pictures_and_found_again_from_another_pose(views) -> None:
    spec, pictures, proprio = views
    ground = Ground(spec, Cameras(spec))
    optimizer = torch.optim.Adam(ground.parameters(), lr=2e-3)
    upper = slice(0, 32)  # no finger is up there
    for _ in range(100):
        error = (wrist(ground(proprio[:-4])) - pictures[:-4])[:, :, upper].abs().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    with torch.no_grad():
        error = (wrist(ground(proprio[-4:])) - pictures[-4:])[:, :, upper].abs()
    assert error.median() < 0.03  # of 2
    assert (pictures[-4:] - pictures.median())[:, :, upper].abs().median() > 0.06


def test_a_pose_that_looks_at_the_sky_or_is_no_pose_is_finite() -> None:
    env = PickCan(image_size=SIDE)
    cameras = Cameras(spec_of_env(env))
    env.close()
    proprio = torch.zeros(3, 24)
    proprio[1, 3], proprio[1, 8] = 1.0, 1.0  # x ahead, y up: half of the picture is sky
    proprio[2, 0:3], proprio[2, 3], proprio[2, 7] = 1e3, 1.0, -1.0
    seen = way(cameras, proprio.roll(1, 0), proprio)(level(cameras, 3))
    assert torch.isfinite(seen.grid).all()
    assert not wrist(seen.inside)[0].all()


def test_a_spec_with_mounts_comes_back_from_json_and_is_not_mixed_with_another() -> None:
    env, moved = PickCan(image_size=SIDE), PickCan(image_size=SIDE, randomize=("camera",))
    spec, other = spec_of_env(env), spec_of_env(moved)
    assert [m.moves for m in spec.mounts.values()] == [False, True]
    assert not other.mounts  # what moves is not calibrated
    assert DataSpec.from_json(spec.to_json()) == spec
    with pytest.raises(UserError, match="mounts"):
        check_compatible(other, dataclasses.replace(spec, env_options=other.env_options))
    for one in (env, moved):
        one.close()
