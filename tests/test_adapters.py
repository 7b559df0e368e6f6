"""Other people's tasks; those of a suite are tested where it is installed (docs/third_party.md)."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from envs.adapters import looks
from worldmodel import cli
from worldmodel.config import compose
from worldmodel.env_config import EnvConfig, make_env
from worldmodel.errors import RunError, UserError
from worldmodel.policy_config import PolicyConfig, make_policy
from worldmodel.spec import attribute, spec_of_env

SMALL = ["model.trunk.width=64", "model.trunk.heads=2", "model.trunk.depth=2", "optim.warmup=2"]
TRAIN = ["train", "batch=2", "steps=3", "holdout=1", "threads=1", "robot_samples=4", "settle=2"]
#: config -> the package that it needs
SUITES = {
    "pendulum": "pygame", "metaworld_reach": "metaworld", "ogbench_cube": "ogbench",
    "robosuite_lift": "robosuite", "robosuite_can": "robosuite",
}  # fmt: skip


def made(name: str) -> gymnasium.Env:
    """The env that configs/env/<name>.yaml says."""
    values = dict(compose("collect", [f"env={name}"])["env"])
    try:
        return make_env(EnvConfig(values.pop("id"), options=values))
    except RunError as error:  # a mujoco that the suite can't run with
        pytest.skip(str(error))


@pytest.mark.parametrize("name", SUITES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_expert_succeeds_in_frames_that_follow_the_state(name: str) -> None:
    if importlib.util.find_spec(SUITES[name]) is None:  # importing it may be too early
        pytest.skip(f"{SUITES[name]} is not installed")
    env = made(name)
    spec = spec_of_env(env)
    assert (len(spec.proprio_names), len(spec.action_names)) == (spec.P, spec.A)
    first = [env.reset(seed=seed)[0] for seed in (4, 5, 4)]
    for key in first[0]:
        assert np.array_equal(first[0][key], first[2][key]), key
    assert any(not np.array_equal(first[0][key], first[1][key]) for key in first[0])
    policy = make_policy(PolicyConfig(), env)
    policy.reset([4])
    obs, over, seen = first[0], False, [first[0][spec.cameras[0]]]
    while not over:
        assert env.observation_space.contains(obs)
        action = policy.act({k: v[None] for k, v in obs.items()})[0]
        assert env.action_space.contains(action)
        obs, reward, terminated, truncated, info = env.step(action)
        seen.append(obs[spec.cameras[0]])
        over = terminated or truncated
    assert info["success"]
    assert info["is_success"]
    assert np.isfinite(reward)
    assert len(np.unique(np.stack(seen), axis=0)) > 0.9 * len(seen)
    for value in attribute(env, "truth")().values():
        assert np.asarray(value).shape in ((3,), ())
    env.close()


def test_the_angle_of_the_pendulum_is_in_the_picture_alone() -> None:
    pytest.importorskip("pygame")
    env = made("pendulum")
    env.reset(seed=0)
    pendulum = env.unwrapped
    pictures, speeds = [], []
    for angle in (0.0, np.pi / 2, np.pi, -np.pi / 2):
        pendulum.state = np.array([angle, 0.5])  # type: ignore[attr-defined]
        obs = attribute(env, "_observation")()
        pictures.append(obs["pixels"].astype(int))
        speeds.append(float(obs["proprio"][0]))
        tip = attribute(env, "truth")()["tip"]
        dark = np.argwhere(obs["pixels"].min(axis=-1) < 200)  # the rod is red on white
        row, column = dark.mean(axis=0) - 249.5
        assert np.allclose([column, -row], 62.5 * tip[:2], atol=15)  # half of 125 pixels
    assert len(set(speeds)) == 1
    assert min(np.abs(a - pictures[0]).sum() for a in pictures[1:]) > 0


def test_a_mistaken_expert_does_not_hold_the_pendulum_up() -> None:
    pytest.importorskip("pygame")
    env = made("pendulum")
    wins = 0
    policy = make_policy(PolicyConfig(mistaken=True), env)
    for seed in range(3):
        env.reset(seed=seed)
        policy.reset([seed])
        over = False
        while not over:
            *_, terminated, truncated, info = env.step(policy.act({})[0])
            over = terminated or truncated
        wins += info["success"]
    assert wins < 3


def test_a_world_without_an_arm_goes_the_whole_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pygame")
    data, run = tmp_path / "data", tmp_path / "run"
    collect = ["collect", "env=pendulum", "episodes=4", "explore=0.5", "workers=1", "per_file=2"]
    assert cli.main([*collect, f"out={data}"]) == 0
    assert cli.main(["data", "check", f"data={data}"]) == 0
    assert cli.main([*TRAIN, *SMALL, f"data={data}", f"out={run}"]) == 0
    policy, few = f"policy={run}", ["episodes=1", "workers=1", "max_steps=5"]
    assert cli.main(["eval", policy, "env=pendulum", *few, f"out={tmp_path / 'eval'}"]) == 0
    assert json.loads((tmp_path / "eval/result.json").read_text())["episodes"] == 1

    words = ["rollout", f"checkpoint={run}", "env=pendulum", "episodes=2", "steps=4", "videos=1"]
    assert cli.main([*words, f"out={tmp_path / 'no'}"]) == 2  # the shipped probe reads cans
    assert "worldmodel probe env=" in capsys.readouterr().err
    assert cli.main([*words, "probe=''", f"out={tmp_path / 'pictures'}"]) == 0
    found = json.loads((tmp_path / "pictures/result.json").read_text())
    assert np.isfinite(found["demonstrations"]["imagined"]["psnr"]).all()
    assert found["demonstrations"]["real frames"]["psnr"][0] == 60
    assert len(found["demonstrations"]["proprio_rmse"]) == 1
    assert found["actions"] == {}
    assert (tmp_path / "pictures/report.html").exists()

    assert cli.main(["eval", policy, *few, f"out={tmp_path / 'other'}"]) == 2  # PickCan
    assert "the env does not fit the policy" in capsys.readouterr().err


def test_any_env_of_gymnasium_by_its_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pygame")
    words = ["collect", "env=gymnasium", "env.id=Pendulum-v1", "policy=random"]
    words += ["keep=all", "episodes=1", "workers=1"]
    assert cli.main([*words, f"out={tmp_path / 'none'}"]) == 2
    assert "env.adapt.pixels=true" in capsys.readouterr().err
    words += ["env.adapt.pixels=true", "env.adapt.success=terminated", "env.adapt.image_size=32"]
    assert cli.main([*words, f"out={tmp_path / 'data'}"]) == 0
    spec = json.loads((tmp_path / "data/meta/worldmodel.json").read_text())["spec"]
    assert spec["image_size"] == [32, 32]
    assert spec["proprio_names"] == ["state_0", "state_1", "state_2"]
    assert spec["env_options"]["adapt"]["success"] == "terminated"
    assert cli.main(["collect", "env=gymnasium", "policy=random", f"out={tmp_path}/x"]) == 2
    assert "env.id" in capsys.readouterr().err
    assert cli.main(["eval", "env=gymnasium", "env.id=CartPole-v1", "policy=random"]) == 2
    assert "continuous" in capsys.readouterr().err


def test_what_is_missing_is_named_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(RuntimeError, match=r"no_such_suite is not installed.*pip install 'x==1'"):
        looks.need("no_such_suite", "'x==1'")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "3.10.1")
    with pytest.raises(RuntimeError, match=r"a mujoco before 3.10, here is 3.10.1: it breaks"):
        looks.need("gymnasium", "'mujoco==3.9.0'", (3, 10), "it breaks")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "3.9.0")
    looks.need("gymnasium", "'mujoco==3.9.0'", (3, 10), "it breaks")


def test_a_suite_s_absence_is_a_run_error() -> None:
    for name, package in (("metaworld_reach", "metaworld"), ("robosuite_can", "robosuite")):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            values = dict(compose("collect", [f"env={name}"])["env"])
            with pytest.raises(RunError, match=f"{package} is not installed.*pip install"):
                make_env(EnvConfig(values.pop("id"), options=values))


def test_options_of_a_suite_are_checked() -> None:
    with pytest.raises(UserError, match="did you mean 'Lift'"):
        make_env(EnvConfig("worldmodel/Robosuite-v0", options={"task": "Lifts"}))
