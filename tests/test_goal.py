"""A picture of the goal as one more camera."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from conftest import ToyEnv
from gymnasium.utils.env_checker import check_env

from worldmodel import checkpoint, cli
from worldmodel.adapt import AdaptConfig, adapt
from worldmodel.env_config import EnvConfig, make_env
from worldmodel.errors import RunError, UserError
from worldmodel.goal import GoalImage
from worldmodel.spec import spec_of_env


class Expert:
    """Pushes the square into the middle, or, lazily, nowhere."""

    def __init__(self, env: ToyEnv, lazy: bool) -> None:
        self.env, self.lazy = env, lazy

    def act(self) -> np.ndarray:
        x, y = self.env.place
        still = np.zeros(3, np.float32)
        return still if self.lazy else np.clip(np.array([-10 * x, -10 * y, 0]), -1, 1)


class Taught(ToyEnv):
    """Its expert fails as often, before it succeeds, as `lazy` says."""

    def __init__(self, lazy: int = 0, **options) -> None:
        super().__init__(size=(32, 32), **options)
        self.lazy = lazy

    def expert(self, np_random: np.random.Generator) -> Expert:
        self.lazy -= 1
        return Expert(self, lazy=self.lazy >= 0)


def test_the_goal_is_what_the_expert_reaches_from_the_same_start() -> None:
    plain, env = Taught(), adapt(Taught(), AdaptConfig(goal="front"))
    first, _ = plain.reset(seed=3)
    obs, _ = env.reset(seed=3)
    assert list(obs) == ["front", "wrist", "goal", "proprio"]
    assert np.array_equal(obs["front"], first["front"])  # the episode itself begins anew
    assert np.array_equal(obs["proprio"], first["proprio"])
    expert, over, reached = plain.expert(np.random.default_rng(0)), False, first
    while not over:
        reached, _, over, *_ = plain.step(expert.act())
    assert np.array_equal(obs["goal"], reached["front"])
    assert not np.array_equal(obs["goal"], obs["front"])
    later = env.step(np.ones(3, np.float32))[0]
    assert np.array_equal(later["goal"], obs["goal"])
    spec = spec_of_env(env)
    assert spec.cameras == ("front", "wrist", "goal")
    assert spec.env_options["adapt"] == {"goal": "front"}
    other, _ = env.reset(seed=4)
    assert not np.array_equal(other["front"], obs["front"])


def test_an_expert_that_fails_is_asked_again_but_not_for_ever() -> None:
    env = GoalImage(Taught(lazy=3, limit=5), "front")
    env.reset(seed=0)
    assert env.unwrapped.lazy < 0  # type: ignore[attr-defined]
    with pytest.raises(RunError, match="failed 8 times from the start of seed 1"):
        GoalImage(Taught(lazy=100, limit=2), "front").reset(seed=1)


def test_an_env_that_tells_success_by_another_name_has_a_goal_too() -> None:
    class Renamed(Taught):
        def step(self, action):
            *most, info = super().step(action)
            return (*most, {"solved": info["success"]})

    obs, _ = adapt(Renamed(), AdaptConfig(goal="front", success="solved")).reset(seed=3)
    assert not np.array_equal(obs["goal"], obs["front"])
    with pytest.raises(UserError, match="info has no 'solved'"):
        adapt(Taught(), AdaptConfig(goal="front", success="solved")).reset(seed=3)


def test_what_can_have_no_goal_says_so() -> None:
    with pytest.raises(UserError, match="no camera 'fornt'; did you mean 'front'"):
        GoalImage(Taught(), "fornt")
    with pytest.raises(UserError, match="ToyEnv has no scripted expert"):
        GoalImage(ToyEnv(), "front")
    with pytest.raises(UserError, match="it has no named parts"):
        GoalImage(gymnasium.make("Pendulum-v1"), "front")


def test_a_can_is_picked_up_towards_a_picture_of_it(tmp_path: Path) -> None:
    """In MuJoCo, from collecting to acting; the model's env shows the goal too."""
    env = make_env(EnvConfig(id="worldmodel/PickCan-v0", adapt=AdaptConfig(goal="front")))
    check_env(env, skip_render_check=True)
    obs, _ = env.reset(seed=0)
    assert np.abs(obs["goal"].astype(int) - obs["front"]).mean() > 1  # arm and can have moved
    env.close()
    goal = ["env=pick_can", "env.adapt.goal=front", "workers=1"]
    data = tmp_path / "data"
    assert cli.main(["collect", *goal, "episodes=2", "per_file=2", f"out={data}"]) == 0
    train = ["train", f"data={data}", "holdout=1", "steps=2", "batch=2", "segment=2", "settle=0"]
    train += ["model.trunk.width=32", "model.trunk.depth=2", "rehearse=0", "robot_samples=2"]
    assert cli.main([*train, "validate_windows=2", f"out={tmp_path / 'run'}"]) == 0
    spec = checkpoint.load(tmp_path / "run" / "checkpoint").model.spec
    assert spec.cameras == ("front", "wrist", "goal")
    policy = f"policy={tmp_path / 'run'}"
    tried = ["eval", policy, *goal, "episodes=1", "max_steps=3", f"out={tmp_path / 'eval'}"]
    assert cli.main(tried) == 0
    imagined = gymnasium.make(
        "worldmodel/Imagined-v0", checkpoint=tmp_path / "run" / "checkpoint", starts=data
    )
    obs, _ = imagined.reset(seed=0)
    assert obs["goal"].shape == (64, 64, 3)
    assert cli.main(["eval", policy, "env=pick_can", "episodes=1", f"out={tmp_path / 'no'}"]) == 2
