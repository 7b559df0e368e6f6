"""The suite: tasks by seed, told in proprioception, and a table task by task."""

from __future__ import annotations

import json
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import policies
from envs import TASKS
from envs.suite import ManipulationSuite
from worldmodel.collect import CollectConfig, collect
from worldmodel.dataset import Dataset
from worldmodel.env_config import EnvConfig, make_env
from worldmodel.errors import UserError
from worldmodel.evaluate import EvalConfig, evaluate
from worldmodel.evaluate_report import write_report
from worldmodel.imagined_env import ImaginedEnv, ImaginedVectorEnv
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.spec import spec_of_env
from worldmodel.transformer import TransformerConfig

TWO = ("open_drawer", "close_drawer")


def test_check_env_has_nothing_to_say() -> None:
    name = "worldmodel/ManipulationSuite-v0"
    env = gym.make(name, tasks=TWO, render_mode="rgb_array", render_size=64).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
    env.close()


def test_the_seed_names_the_task_and_proprioception_tells_it() -> None:
    env = ManipulationSuite(cameras=())
    names, n = list(TASKS), len(TASKS)
    for seed in range(2 * n):
        obs, info = env.reset(seed=seed)
        assert info["task"] == env.task_name == names[seed % n]
        assert obs["proprio"].shape == (24 + n,)
        assert obs["proprio"][24:].tolist() == [float(i == seed % n) for i in range(n)]
        assert env.observation_space["proprio"].contains(obs["proprio"])  # pyright: ignore
        obs, *_ = env.step(np.zeros(7, np.float32))
        assert obs["proprio"][24:].argmax() == seed % n
    chosen, info = env.reset(seed=1, options={"task": "stack_can"})
    assert info["task"] == "stack_can"
    again, _ = env.reset(seed=1, options={"task": "stack_can"})
    np.testing.assert_array_equal(chosen["proprio"], again["proprio"])


def test_only_some_may_be_asked_for_and_are_told_as_ever() -> None:
    env = ManipulationSuite(only=("push_can", "move_near"), cameras=())
    for seed in range(4):
        obs, info = env.reset(seed=seed)
        assert info["task"] == ("push_can", "move_near")[seed % 2]
        assert list(TASKS)[obs["proprio"][24:].argmax()] == info["task"]
    with pytest.raises(ValueError, match="expected one of open_drawer"):
        ManipulationSuite(tasks=("open_drawer",), only=("push_can",))


def test_a_task_is_the_same_within_the_suite() -> None:
    alone = gym.make("worldmodel/PushCan-v0").unwrapped
    env: Any = ManipulationSuite()
    a, _ = alone.reset(seed=15)
    b, _ = env.reset(seed=15, options={"task": "push_can"})
    np.testing.assert_array_equal(a["front"], b["front"])
    np.testing.assert_array_equal(a["proprio"], b["proprio"][:24])
    assert env.truth().keys() == {"gripper", "can", "mark"}


def test_bad_tasks_are_named() -> None:
    with pytest.raises(ValueError, match="did you mean 'push_can'"):
        ManipulationSuite(tasks=("push_cn",))
    with pytest.raises(ValueError, match="no tasks"):
        ManipulationSuite(tasks=())
    with pytest.raises(ValueError, match="task"):
        ManipulationSuite(cameras=()).reset(options={"task": "fly"})


def test_collect_and_evaluate_tell_tasks_apart(tmp_path: Path) -> None:
    env_config = EnvConfig("worldmodel/ManipulationSuite-v0", options={"tasks": list(TWO)})
    make, policy = partial(make_env, env_config), policies.ScriptedPolicy
    spec = spec_of_env(make())
    assert spec.tasks == TWO
    config = CollectConfig(episodes=4, seed=0, workers=1, per_file=2)
    collect(make, policy, config, tmp_path / "data")
    dataset = Dataset(tmp_path / "data")
    assert dataset.spec.tasks == TWO
    hot = [dataset.stream("proprio")[e.start, -2:].tolist() for e in dataset.episodes]
    assert hot == [[1, 0], [0, 1], [1, 0], [0, 1]]

    out = tmp_path / "eval"
    result = evaluate(
        make, policy, EvalConfig(episodes=4, seed=0, workers=1, videos=0), out,
        about={"policy": "scripted", "env": env_config.id},
    )  # fmt: skip
    tasks = json.loads((out / "result.json").read_text())["tasks"]
    assert {name: t["successes"] for name, t in tasks.items()} == dict.fromkeys(TWO, 2)
    write_report(result, out)
    page = (out / "report.html").read_text()
    assert all(name in page for name in ("Task by task", *TWO))


def test_an_imagined_suite_goes_on_with_the_task_that_it_began_with(tmp_path: Path) -> None:
    make = partial(make_env, EnvConfig("worldmodel/ManipulationSuite-v0", options={"tasks": TWO}))
    config = CollectConfig(episodes=4, seed=0, workers=1, per_file=4)
    collect(make, policies.ScriptedPolicy, config, tmp_path)
    dataset = Dataset(tmp_path)
    torch.manual_seed(0)
    model = WorldModel(dataset.spec, ModelConfig(trunk=TransformerConfig(32, 2, 2))).eval()
    model.read_outcome.bias.data.fill_(-10.0)  # untrained, it would end episodes at random
    worlds = ImaginedVectorEnv(6, model, starts=tmp_path)
    asked = worlds.reset(seed=0)[0]["proprio"][:, -2:]
    assert {tuple(row) for row in asked.tolist()} == {(1.0, 0.0), (0.0, 1.0)}
    for _ in range(3):
        obs, *_ = worlds.step(np.zeros((6, 7), np.float32))
    np.testing.assert_allclose(obs["proprio"][:, -2:], asked, atol=0.05)

    def tasks(obs: dict[str, np.ndarray]) -> set[str]:
        return {TWO[i] for i in obs["proprio"][:, -2:].argmax(axis=1)}

    assert tasks(worlds.reset(options={"task": TWO[1]})[0]) == {TWO[1]}
    only = ImaginedVectorEnv(6, model, starts=tmp_path, task=TWO[0], max_episode_steps=1)
    only.reset(seed=0)
    assert tasks(only.step(np.zeros((6, 7), np.float32))[0]) == {TWO[0]}  # new episodes, all
    one, _ = ImaginedEnv(model, tmp_path).reset(seed=0, options={"task": TWO[1]})
    assert one["proprio"][-2:].tolist() == [0, 1]
    with pytest.raises(UserError, match=f"did you mean '{TWO[0]}'"):
        worlds.reset(options={"task": TWO[0][:-1]})
