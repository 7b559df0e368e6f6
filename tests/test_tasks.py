"""Every task of the suite: Gymnasium's contract, its expert, and what must not succeed."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs import TASKS
from envs.drawers import CloseDrawer, OpenDrawer
from envs.move_near import MoveNear
from envs.place_can import PlaceCan
from envs.place_in_drawer import PlaceInDrawer
from envs.push_can import PushCan
from envs.stack_can import StackCan
from envs.task import ArmTask
from envs.things import CAN_HALF_HEIGHT

STILL = np.zeros(7, np.float32)
NEW = [name for name in TASKS if name != "pick_can"]  # PickCan's own are in test_envs.py


def make(name: str, **options: Any) -> Any:
    return gym.make(f"worldmodel/{TASKS[name].partition(':')[2]}-v0", **options).unwrapped


def play(env: ArmTask, seed: int, noise: float = 0.0) -> tuple[dict[str, Any], int, float]:
    """The last info, the length and the dense return of one episode by the expert."""
    env.reset(seed=seed)
    rng = np.random.default_rng(seed + 10**6)
    expert, total, info = env.expert(rng), 0.0, {}
    for step in range(1, 101):
        action = expert.act()
        assert action.shape == (7,)
        assert np.abs(action).max() <= 1
        noisy = np.clip(action + noise * rng.normal(size=7), -1, 1).astype(np.float32)
        _, _, terminated, _, info = env.step(noisy)
        total += info["reward_dense"]
        if terminated:
            return info, step, total
    return info, 100, total


@pytest.mark.parametrize("name", NEW)
def test_check_env_has_nothing_to_say(name: str) -> None:
    env = make(name, render_mode="rgb_array", render_size=64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
    env.close()


@pytest.mark.parametrize("name", NEW)
def test_same_seed_same_episode_and_frames_follow_the_state(name: str) -> None:
    env = make(name)
    runs = []
    for _ in range(2):
        obs, _ = env.reset(seed=3)
        expert, seen = env.expert(np.random.default_rng(0)), [obs]
        for _ in range(12):
            seen.append(env.step(expert.act())[0])
        runs.append(seen)
    for a, b in zip(*runs, strict=True):
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])
    for camera in env.cameras:
        assert all((a[camera] != b[camera]).any() for a, b in pairwise(runs[0]))
    assert (env.reset(seed=4)[0]["front"] != runs[0][0]["front"]).any()
    env.close()


@pytest.mark.parametrize("name", NEW)
def test_the_expert_succeeds_and_is_paid_for_it(name: str) -> None:
    env = make(name, cameras=())
    results = [play(env, seed) for seed in range(9000, 9020)]
    assert [info["outcome"] for info, _, _ in results] == ["success"] * 20
    assert all(info["success"] is True for info, _, _ in results)
    assert np.mean([steps for _, steps, _ in results]) < 45
    returns = [total for _, _, total in results]
    assert min(returns) > 1.4
    assert max(returns) <= 2.0


@pytest.mark.parametrize("name", NEW)
def test_the_expert_recovers_from_noise(name: str) -> None:
    env = make(name, cameras=())
    assert sum(play(env, seed, 0.1)[0]["success"] for seed in range(9100, 9110)) >= 9


@pytest.mark.parametrize("name", NEW)
def test_neither_stillness_nor_flailing_succeeds(name: str) -> None:
    env, rng = make(name, cameras=()), np.random.default_rng(0)
    for seed in range(3):
        for still in (True, False):
            env.reset(seed=seed)
            for _ in range(40):
                action = STILL if still else rng.uniform(-1, 1, 7).astype(np.float32)
                _, reward, terminated, _, info = env.step(action)
                assert not info["success"]
                assert reward == 0.0
                if terminated:
                    break


@pytest.mark.parametrize("kind", [MoveNear, StackCan, PlaceCan, OpenDrawer])
def test_colours_vary_of_what_only_this_task_has(kind: Any) -> None:
    env = kind(randomize=("colour",), cameras=())
    name = {MoveNear: "block", StackCan: "block", PlaceCan: "bin", OpenDrawer: "drawer"}[kind]
    seen = set()
    for seed in range(3):
        env.reset(seed=seed)
        seen.add(tuple(env.model.material(name).rgba))
    assert len(seen) == 3


def test_a_thing_in_its_place_must_be_let_go() -> None:
    env = StackCan(cameras=())
    env.reset(seed=0)
    expert, held, info = env.expert(np.random.default_rng(0)), 0, {}
    for _ in range(60):
        action = expert.act()
        over = np.linalg.norm(env.position("can") - env.goal()) < 0.01
        if over and env.held("can"):
            action = np.array([0, 0, 0, 0, 0, 0, 1], np.float32)
            held += 1
        info = env.step(action)[4]
    assert held > 20
    assert not info["success"]
    assert info["outcome"] == "not_placed"


def test_a_can_beside_the_bin_or_a_block_that_was_shoved_is_no_success() -> None:
    env = PlaceCan(cameras=())
    env.reset(seed=0, options={"can_position": (0.5, 0.12), "bin_position": (0.5, 0.0)})
    assert not any(env.step(STILL)[4]["success"] for _ in range(6))
    near = MoveNear(cameras=())
    options = {"can_position": (0.5, 0.10), "block_position": (0.5, 0.0)}
    near.reset(seed=0, options=options)
    near.data.qpos[near.model.joint("block").qposadr[0]] += 0.055  # shoved, and still near
    for _ in range(6):
        assert not near.step(STILL)[4]["success"]
    near.reset(seed=0, options=options)  # as near, and not pushed
    assert any(near.step(STILL)[4]["success"] for _ in range(6))


def test_a_lifted_or_tipped_can_is_not_pushed() -> None:
    env = PushCan(cameras=())
    start = {"can_position": (0.5, 0.0), "mark_position": (0.5, 0.15)}
    env.reset(seed=0, options=start)
    qpos = int(env.model.joint("can").qposadr[0])
    env.data.qpos[qpos : qpos + 3] = (0.5, 0.15, CAN_HALF_HEIGHT + 0.10)  # dropped onto the mark
    infos = [env.step(STILL)[4] for _ in range(10)]
    assert not any(info["success"] for info in infos)
    assert infos[-1]["outcome"] == "lifted"
    env.reset(seed=0, options=start)
    env.data.qpos[qpos : qpos + 7] = (0.5, 0.15, 0.033, 0.7071, 0, 0.7071, 0)
    infos = [env.step(STILL)[4] for _ in range(6)]
    assert infos[-1]["outcome"] == "tipped"


def test_drawers_stay_where_they_are_left_and_slide_when_pulled() -> None:
    env = OpenDrawer(cameras=())
    env.reset(seed=0, options={"opening": 0.05})
    for _ in range(10):
        env.step(STILL)
    assert abs(env.sliding.travel - 0.05) < 1e-3
    shut = CloseDrawer(cameras=())
    shut.reset(seed=0)
    assert 0.08 <= shut.sliding.travel <= 0.15
    info, _, _ = play(shut, 0)
    assert shut.sliding.travel <= 0.01
    assert info["success"]


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (MoveNear, {"can_positon": (0.5, 0.0)}, "did you mean 'can_position'"),
        (PlaceCan, {"bin_position": (0.5, 0.0, 0.0)}, "shape"),
        (PlaceInDrawer, {"opening": float("nan")}, "opening"),
    ],
)
def test_bad_reset_options_are_named(task: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task(cameras=()).reset(seed=0, options=options)
