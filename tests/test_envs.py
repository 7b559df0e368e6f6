"""The PickCan environment: Gymnasium's contract, physics that holds and drops, pictures, errors."""

from __future__ import annotations

import subprocess
import sys
import warnings
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs import backend
from envs.controller import (  # fmt: skip
    Controller,
    ControllerConfig,
    hand_down,
    rotation_matrix,
    rotation_vector,
    split_tilt,
    yaw_of,
)
from envs.pick_can import PickCan
from envs.rendering import Renderer
from envs.scene import JOINT_TORQUE, SceneConfig, build_model

STILL = np.array([0, 0, 0, 0, 0, 0, 0], np.float32)


def rollout(env: PickCan, seed: int, steps: int) -> list[tuple[dict[str, np.ndarray], float]]:
    """Observations and rewards of random actions after a seeded reset."""
    rng = np.random.default_rng(seed)
    seen = [(env.reset(seed=seed)[0], 0.0)]
    for _ in range(steps):
        obs, reward, *_ = env.step(rng.uniform(-1, 1, 7).astype(np.float32))
        seen.append((obs, reward))
    return seen


@pytest.mark.parametrize("reward", ["sparse", "dense"])
def test_check_env_has_nothing_to_say(reward: str) -> None:
    env = gym.make("worldmodel/PickCan-v0", reward=reward, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    env.close()


def test_contract_of_make() -> None:
    env = gym.make("worldmodel/PickCan-v0", image_size=(48, 80))
    assert env.spec is not None
    assert env.spec.max_episode_steps == 100
    obs, info = env.reset(seed=0)
    task: Any = env.unwrapped
    assert obs["front"].shape == obs["wrist"].shape == (48, 80, 3)
    assert obs["proprio"].shape == (len(task.proprio_names),) == (24,)
    assert env.action_space.shape == (len(task.action_names),) == (7,)
    assert (task.control_frequency, task.task_name) == (10.0, "pick_can")
    assert task.cameras == ("front", "wrist")
    assert {"success", "is_success", "outcome"} <= set(info)
    steps, truncated = 0, False
    while not truncated:
        obs, _, terminated, truncated, info = env.step(STILL)
        steps += 1
        assert env.observation_space.contains(obs)
        assert not terminated
        assert not info["success"]
    assert steps == 100
    assert info["outcome"] == "not_reached"
    env.close()


def test_repeats_bit_for_bit_with_pictures() -> None:
    names = ("colour", "light", "camera")
    first, second = PickCan(randomize=names), PickCan(randomize=names)
    rollout(second, seed=1, steps=3)  # an earlier episode must leave nothing behind
    for (a, reward_a), (b, reward_b) in zip(
        rollout(first, 5, 12), rollout(second, 5, 12), strict=True
    ):
        assert reward_a == reward_b
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def test_pictures_follow_the_state() -> None:
    env = PickCan()
    env.reset(seed=0)
    ahead = np.array([0.8, 0.3, -0.4, 0, 0, 0.5, 1], np.float32)
    for camera in env.cameras:
        frames = [env.step(ahead)[0][camera] for _ in range(4)]
        for before, after in pairwise(frames):
            assert (before != after).any(axis=-1).mean() > 0.01
    far = {"can_position": (0.65, 0.25), "can_pose": "lying"}
    near = {"can_position": (0.40, -0.25), "can_pose": "lying"}
    here, there = (env.reset(seed=0, options=o)[0]["front"] for o in (near, far))
    assert (here != there).any(axis=-1).mean() > 0.01


@pytest.mark.parametrize("camera", ["front", "wrist", "viewer"])
def test_hiding_what_is_out_of_view_changes_no_pixel(
    camera: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = PickCan()
    env.reset(seed=2)
    env.step(np.array([0.5, 0.5, 0, 0.5, 0.5, 1, 0], np.float32))
    hidden = env.frame(camera, (64, 96))
    monkeypatch.setattr(Renderer, "_groups_in_view", lambda self, *_: self._groups)
    np.testing.assert_array_equal(hidden, env.frame(camera, (64, 96)))


def test_whole_workspace_is_in_the_front_picture() -> None:
    """The red can is seen whole in all corners, at no more than 10 mm a pixel."""
    env = PickCan(cameras=("front",))
    columns = {}
    for x in (0.40, 0.65):
        for y in (-0.25, 0.25):
            options = {"can_position": (x, y), "can_pose": "upright"}
            picture = env.reset(seed=3, options=options)[0]["front"].astype(int)
            red = (picture[..., 0] > 90) & (picture[..., 1] < 70)
            assert red.sum() > 12, (x, y)
            columns[x, y] = np.nonzero(red)[1].mean()
    for x in (0.40, 0.65):
        assert abs(columns[x, 0.25] - columns[x, -0.25]) > 0.5 / 0.0101  # pixels for 0.5 m


def test_render_sizes_and_views() -> None:
    env = PickCan(render_mode="rgb_array", render_size=(200, 300))
    env.reset(seed=0)
    frame = env.render()
    assert frame is not None
    assert frame.shape == (200, 300, 3)
    assert frame.std() > 20
    assert env.frame("front", 128).shape == (128, 128, 3)
    env.close()
    assert PickCan().render() is None


@pytest.mark.parametrize("kind", ["colour", "light", "camera"])
def test_randomisation_changes_the_picture_and_nothing_else(kind: str) -> None:
    plain, varied = PickCan(), PickCan(randomize=(kind,))
    obs_a, obs_b = (env.reset(seed=4)[0]["front"] for env in (varied, varied))
    np.testing.assert_array_equal(obs_a, obs_b)
    assert (obs_a != varied.reset(seed=5)[0]["front"]).any()
    assert (plain.reset(seed=4)[0]["front"] != obs_a).any()


def test_poses_cover_the_area() -> None:
    env = PickCan(cameras=())
    spots, upright = [], []
    for seed in range(200):
        env.reset(seed=seed)
        spots.append(env.can_position[:2])
        upright.append(abs(env.can_axis[2]) > 0.9)
        assert abs(env.clearance) < 1e-6
    extent = np.ptp(spots, axis=0)
    assert (extent > (0.24, 0.48)).all()
    assert 60 < sum(upright) < 140
    for pose, standing in (("upright", True), ("lying", False)):
        env = PickCan(pose=pose, cameras=())
        for seed in range(5):
            env.reset(seed=seed)
            assert (abs(env.can_axis[2]) > 0.9) == standing


@pytest.mark.parametrize(
    ("mass", "friction", "holds"),
    [
        (0.35, 0.8, True),
        (2.0, 0.8, True),
        (4.5, 0.8, False),
        (0.35, 0.15, True),
        (0.35, 0.05, False),
    ],
)
def test_holding_follows_friction_against_weight(mass: float, friction: float, holds: bool) -> None:
    """Two pads at 20 N each hold 2 * friction * 20 N, no more."""
    assert (2 * friction * 20.0 > mass * 9.81) == holds
    env = PickCan(pose="upright", can_mass=mass, can_friction=friction, cameras=())
    env.reset(seed=0, options={"can_position": (0.5, 0.0)})
    expert = env.expert(np.random.default_rng(0))
    lifted = 0.0
    for _ in range(60):
        env.step(expert.act())
        lifted = max(lifted, env.clearance)
    assert (lifted > 0.09) == holds


def test_can_does_not_creep_out_of_the_grasp() -> None:
    env = PickCan(pose="upright", cameras=())
    env.reset(seed=0)
    expert = env.expert(np.random.default_rng(0))
    while not env.step(expert.act())[4]["success"]:
        pass
    still = np.array([0, 0, 0, 0, 0, 0, 1], np.float32)
    env.step(still)
    before = env.can_position - env.tcp_position
    for _ in range(50):
        env.step(still)
    assert np.linalg.norm(env.can_position - env.tcp_position - before) < 0.003


def test_flinging_is_no_success_and_leaving_the_table_fails() -> None:
    env = PickCan(cameras=())
    env.reset(seed=0)
    start = env._can_qpos
    env.data.qpos[start : start + 3] = (0.36, 0.0, 0.45)  # thrown through the home zone
    for _ in range(4):
        assert not env.step(STILL)[4]["success"]
    env.data.qpos[start : start + 3] = (0.5, 0.7, 0.06)
    _, _, terminated, truncated, info = env.step(STILL)
    assert (terminated, truncated, info["outcome"]) == (True, False, "off_table")


def test_dense_reward_is_bounded_and_rises_on_the_way() -> None:
    env = PickCan(reward="dense", cameras=())
    for seed in range(3):
        env.reset(seed=seed)
        expert, total, info = env.expert(np.random.default_rng(seed)), 0.0, {"success": False}
        while not info["success"]:
            _, reward, _, _, info = env.step(expert.act())
            assert -1.0 <= reward <= 2.0
            total += reward
        assert 1.5 < total < 2.0


def test_torque_and_joint_limits_are_the_published_ones() -> None:
    model = build_model(SceneConfig())
    for i, torque in enumerate(JOINT_TORQUE):
        assert tuple(model.jnt_actfrcrange[i]) == (-torque, torque)
    mass = sum(model.body(f"link{i}").mass[0] for i in range(1, 8))
    assert mass == pytest.approx(16.062, abs=0.001)  # kg, the identified links


def test_inverse_kinematics_reaches_the_workspace() -> None:
    controller = Controller(build_model(SceneConfig(), arm_only=True), ControllerConfig())
    arm = controller._data
    rng = np.random.default_rng(0)
    for _ in range(30):
        position = rng.uniform((0.34, -0.27, 0.03), (0.66, 0.27, 0.30))
        rotation = hand_down(float(rng.uniform(-1.6, 1.6)))
        controller.reset(position, rotation)
        controller._solve(1)  # brings the kinematic state to the solution
        reached = arm.site_xpos[controller._site], arm.site_xmat[controller._site].reshape(3, 3)
        assert np.linalg.norm(reached[0] - position) < 1e-3
        assert np.linalg.norm(rotation_vector(rotation @ reached[1].T)) < 0.01


def test_rotation_helpers_are_inverses() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        vector = rng.normal(size=3)
        vector *= rng.uniform(0, 3.0) / np.linalg.norm(vector)
        np.testing.assert_allclose(rotation_vector(rotation_matrix(vector)), vector, atol=1e-9)
        tilt = np.array([*rng.uniform(-0.4, 0.4, 2), 0.0])
        yaw = float(rng.uniform(-1.5, 1.5))
        found_yaw, found_tilt = split_tilt(rotation_matrix(tilt) @ hand_down(yaw))
        np.testing.assert_allclose([found_yaw, *found_tilt], [yaw, *tilt], atol=1e-9)
        assert yaw_of(hand_down(yaw)) == pytest.approx(yaw)


def test_commanded_pose_cannot_wind_up() -> None:
    env = PickCan(pose="upright", cameras=())
    env.reset(seed=0, options={"can_position": (0.65, 0.25)})
    for action in ((0, 0, -1), (1, 1, -1), (-1, -1, -1)):
        for _ in range(25):
            obs, *_ = env.step(np.array([*action, 1, 1, 1, 1], np.float32))
            assert np.linalg.norm(obs["proprio"][10:13]) < 0.08
            assert np.linalg.norm(obs["proprio"][13:16]) < 0.8
            assert np.isfinite(env.data.qpos).all()
            assert env.tcp_position[2] > 0.0


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (np.full(7, np.nan), ["NaN", "delta_x", "nothing was stepped"]),
        (np.array([0, 0, 0, 0, 0, 0, np.inf]), ["gripper"]),
        (np.zeros(6), ["(6,)", "(7,)"]),
        (np.zeros((1, 7)), ["(1, 7)", "one action per step"]),
    ],
)
def test_bad_action_is_named_and_not_stepped(action: np.ndarray, words: list[str]) -> None:
    env = PickCan(cameras=())
    env.reset(seed=0)
    time = env.data.time
    with pytest.raises(ValueError, match="got an action") as error:
        env.step(action)
    assert all(word in str(error.value) for word in words)
    assert env.data.time == time


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pose": "uprigth"}, "did you mean 'upright'"),
        ({"reward": "shaped"}, "expected one of dense, sparse"),
        ({"randomize": ("color",)}, "did you mean 'colour'"),
        ({"cameras": ("side",)}, "expected one of front, wrist"),
        ({"image_size": 4}, "from 16 to 1024"),
        ({"image_size": (64, 64, 3)}, r"\(height, width\)"),
        ({"can_mass": -1.0}, "above 0"),
        ({"render_mode": "human"}, "rgb_array"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PickCan(**options)


def test_bad_reset_options_and_step_before_reset() -> None:
    env = PickCan(cameras=())
    with pytest.raises(RuntimeError, match="reset"):
        env.step(STILL)
    with pytest.raises(ValueError, match="did you mean 'can_pose'"):
        env.reset(options={"can_posse": "lying"})
    with pytest.raises(ValueError, match="on the"):
        env.reset(options={"can_position": (3.0, 0.0)})


def test_backend_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert backend.choose_backend() == "osmesa"
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr(backend, "_works", lambda name: name == "osmesa")
    assert backend.choose_backend() == "osmesa"
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr(backend, "_works", lambda name: False)
    assert backend.choose_backend() == "disable"
    with pytest.raises(RuntimeError, match=r"libegl1 libgl1-mesa-dri.*libosmesa6"):
        PickCan().reset(seed=0)
    PickCan(cameras=()).reset(seed=0)


def test_import_is_light() -> None:
    code = "import envs, sys; print({'mujoco', 'torch', 'worldmodel'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert envs.choose_backend() == backend.choose_backend()


def test_truth_is_the_state_and_cans_in_pictures_are_counted() -> None:
    env = PickCan()
    obs, _ = env.reset(seed=3, options={"can_position": (0.5, 0.1), "can_pose": "lying"})
    truth = env.truth()
    assert np.allclose(truth["can"][:2], (0.5, 0.1))
    assert np.allclose(truth["gripper"], obs["proprio"][:3], atol=1e-6)
    assert not truth["in hand"]
    expert, flags = env.expert(np.random.default_rng(0)), []
    while not (flags and flags[-1] == "success"):
        obs, *_, info = env.step(expert.act())
        flags.append(info["outcome"])
    assert env.truth()["in hand"]

    def pictures(position: tuple[float, float], pose: str = "upright") -> dict[str, np.ndarray]:
        found, _ = env.reset(seed=5, options={"can_position": position, "can_pose": pose})
        return {name: found[name] for name in env.cameras}

    left, right = pictures((0.5, 0.2)), pictures((0.5, -0.2), "lying")
    assert env.count(left) == env.count(right) == 1
    red = np.abs(left["front"].astype(int) - right["front"]).max(-1) > 40
    both = {**left, "front": np.where(red[..., None], np.minimum(left["front"], right["front"]),
                                      left["front"])}  # fmt: skip
    assert env.count(both) == 2
    wiped = {name: np.full_like(picture, 180) for name, picture in left.items()}
    assert env.count(wiped) == 0
