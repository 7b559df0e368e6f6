"""Other people's envs: what becomes of their spaces, and what is said where nothing can."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import ToyEnv
from gymnasium import spaces

from worldmodel.adapt import AdaptConfig, adapt
from worldmodel.check_numbers import _returns
from worldmodel.errors import UserError
from worldmodel.resize import resize, shares
from worldmodel.spec import DataSpec, attribute, spec_of_env


class Odd(gymnasium.Env):
    """An env with any spaces; an observation is a sample, an action is kept."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 12}  # noqa: RUF012

    def __init__(self, observation: spaces.Space, action: spaces.Space | None = None) -> None:
        self.observation_space = observation
        self.action_space = action or spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.last: Any = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.seen = self.observation_space.sample()
        return self.seen, {}

    def step(self, action):
        self.last = action
        self.seen = self.observation_space.sample()
        return self.seen, 0.5, True, False, {"solved": 1.0}


def picture(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


def vector(n: int) -> spaces.Box:
    return spaces.Box(-2.0, 3.0, (n,), np.float64)


def start(env: gymnasium.Env) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The observation of an adapted env, which its space must hold, and the inner env's."""
    obs, _ = env.reset(seed=3)
    assert env.observation_space.contains(obs)
    return obs, env.unwrapped.seen  # type: ignore[attr-defined]


def test_an_env_that_fits_is_left_as_it_is() -> None:
    fits = ToyEnv(size=(32, 48))
    assert adapt(fits) is fits
    small = adapt(ToyEnv())  # 18 x 22
    assert small.observation_space["front"].shape == (64, 64, 3)
    assert spec_of_env(small).proprio_names == ToyEnv.proprio_names
    assert spec_of_env(small).cameras == ToyEnv.cameras


def test_a_picture_alone_gets_a_neutral_proprioception() -> None:
    env = adapt(Odd(picture(64, 80, 3)))
    obs, seen = start(env)
    assert np.array_equal(obs["pixels"], seen)
    assert obs["proprio"].tolist() == [0.0]
    spec = spec_of_env(env)
    assert (spec.P, spec.image_size, spec.control_frequency) == (1, (64, 80), 12.0)
    assert spec.proprio_names == ("none [1]",)


def test_vectors_are_joined_in_the_order_that_is_said() -> None:
    space = {"eye": picture(64, 64, 3), "b": vector(2), "a": vector(3), "c": vector(1)}
    obs, seen = start(adapt(Odd(spaces.Dict(space)), AdaptConfig(proprio=("b", "a"))))
    assert np.allclose(obs["proprio"], [*seen["b"], *seen["a"]])
    env = adapt(Odd(spaces.Dict(space)))
    obs, seen = start(env)
    assert np.allclose(
        obs["proprio"], np.concatenate([seen[k] for k in env.unwrapped.seen if k != "eye"])
    )
    assert spec_of_env(env).P == 6
    assert set(spec_of_env(env).proprio_high) == {3.0}
    obs, _ = start(adapt(Odd(spaces.Dict(space)), AdaptConfig(proprio=())))
    assert obs["proprio"].tolist() == [0.0]


def test_channels_first_grey_and_nested_pictures() -> None:
    cameras = spaces.Dict({"top": picture(3, 32, 48), "side": picture(32, 48)})
    env = adapt(Odd(spaces.Dict({"agent_pos": vector(2), "pixels": cameras})))
    obs, seen = start(env)
    assert np.array_equal(obs["pixels_top"], seen["pixels"]["top"].transpose(1, 2, 0))
    for channel in range(3):
        assert np.array_equal(obs["pixels_side"][..., channel], seen["pixels"]["side"])
    assert np.allclose(obs["proprio"], seen["agent_pos"])


def test_pictures_of_several_or_odd_sizes_are_resized() -> None:
    space = spaces.Dict({"a": picture(50, 60, 3), "b": picture(96, 64, 3), "proprio": vector(1)})
    obs, _ = start(adapt(Odd(space)))
    assert obs["a"].shape == obs["b"].shape == (64, 64, 3)
    obs, _ = start(adapt(Odd(space), AdaptConfig(image_size=(48, 32), cameras=("b",))))
    assert {k: v.shape for k, v in obs.items()} == {"b": (48, 32, 3), "proprio": (1,)}
    obs, _ = start(adapt(Odd(spaces.Dict({"a": picture(480, 480, 3)}))))
    assert obs["a"].shape == (64, 64, 3)


def test_a_new_pixel_is_the_mean_of_what_it_covers() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    found = resize(image, (20, 30))
    blocks = image.reshape(20, 3, 30, 3, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(found - blocks).max() <= 0.5 + 1e-3
    assert np.allclose(shares(50, 64).sum(axis=1), 1.0, atol=1e-5)
    # 3 -> 2: each new pixel is one old one and half of the middle
    assert np.allclose(shares(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], atol=1e-6)
    flat = np.full((37, 53, 3), 201, np.uint8)
    assert (resize(flat, (64, 64)) == 201).all()


def test_actions_are_scaled_to_the_env_s_bounds() -> None:
    low, high = np.float32([-2.0, 0.0]), np.float32([2.0, 10.0])
    env = adapt(Odd(picture(64, 64, 3), spaces.Box(low, high)))
    assert env.action_space == spaces.Box(-1.0, 1.0, (2,), np.float32)
    env.reset(seed=0)
    env.step(np.float32([-0.5, 0.2]))
    assert np.allclose(env.unwrapped.last, [-1.0, 6.0])  # type: ignore[attr-defined]


def test_success_is_read_where_it_is_said_to_stand() -> None:
    for word in ("solved", "terminated"):
        env = adapt(Odd(picture(64, 64, 3)), AdaptConfig(success=word))
        env.reset(seed=0)
        assert env.step(env.action_space.sample())[4]["success"] is True
    env = adapt(Odd(picture(64, 64, 3)), AdaptConfig(success="solve"))
    env.reset(seed=0)
    with pytest.raises(UserError, match="did you mean 'solved'"):
        env.step(env.action_space.sample())


def test_rewards_are_scaled() -> None:
    env = adapt(Odd(picture(64, 64, 3)), AdaptConfig(reward_scale=0.01))
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[1] == pytest.approx(0.005)
    assert list(_returns([], np.zeros(0))) == []
    rows = [{"dataset_from_index": 0, "dataset_to_index": 4}]  # the last row repeats a reward
    (found,) = _returns(rows, np.array([-8.0, -8.0, -8.0, -8.0]))
    assert "add up to 24" in found.what
    assert "reward_scale=0.04" in found.repair
    assert not found.serious
    assert list(_returns(rows, np.array([-3.0, -3.0, -3.0, -3.0]))) == []


def test_a_spec_says_how_the_env_was_adapted() -> None:
    config = AdaptConfig(image_size=(32,), control_frequency=7.0)
    spec = spec_of_env(adapt(Odd(picture(64, 64, 3)), config))
    assert spec.env_options["adapt"] == {"image_size": [32], "control_frequency": 7.0}
    assert (spec.image_size, spec.control_frequency) == ((32, 32), 7.0)
    assert DataSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_attributes_are_found_on_wrappers_and_on_what_they_wrap() -> None:
    class Named(gymnasium.Wrapper):
        task_name = "mine"

    env = gymnasium.wrappers.TimeLimit(Named(ToyEnv(size=(32, 32))), 5)
    assert attribute(env, "task_name") == "mine"
    assert attribute(env, "control_frequency") == 10.0
    assert attribute(env, "nothing", 3) == 3
    assert spec_of_env(env).tasks == ("mine",)


@pytest.mark.parametrize(
    ("observation", "config", "words"),
    [
        (vector(3), AdaptConfig(), r"no image.*env.adapt.pixels=true"),
        (spaces.Dict({"a": vector(3)}), AdaptConfig(), r"no image"),
        (
            spaces.Dict({"eye": picture(64, 64, 3), "text": spaces.Discrete(3)}),
            AdaptConfig(),
            r"'text' is Discrete\(3\).*env.adapt.proprio",
        ),
        (
            spaces.Dict({"eye": picture(64, 64, 3), "state": vector(1)}),
            AdaptConfig(proprio=("stat",)),
            r"no such part 'stat'; did you mean 'state'",
        ),
        (picture(64, 64, 3), AdaptConfig(cameras=("front",)), r"cameras: .*'front'.*it has pixels"),
        (picture(64, 64, 3), AdaptConfig(pixels=True), r"render_mode='rgb_array'"),
    ],
)  # fmt: skip
def test_observations_that_cannot_be_mapped(
    observation: spaces.Space, config: AdaptConfig, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        adapt(Odd(observation), config)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (spaces.Discrete(4), r"got Discrete\(4\).*continuous"),
        (spaces.Box(0, 3, (2,), np.int64), r"continuous"),
        (spaces.Box(-1.0, 1.0, (2, 2), np.float32), r"one dimension"),
        (spaces.Box(-np.inf, np.inf, (2,), np.float32), r"bounds .*expected finite"),
    ],
)
def test_actions_that_a_continuous_model_cannot_give(action: spaces.Space, words: str) -> None:
    with pytest.raises(UserError, match=words):
        adapt(Odd(picture(64, 64, 3), action))


def test_an_env_without_a_frequency_must_be_told_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Odd, "metadata", {"render_modes": []})
    with pytest.raises(UserError, match=r"env.adapt.control_frequency=10"):
        adapt(Odd(picture(64, 64, 3)))
    told = adapt(Odd(picture(64, 64, 3)), AdaptConfig(control_frequency=4.0))
    assert spec_of_env(told).control_frequency == 4.0
    raw = Odd(spaces.Dict({"eye": picture(64, 64, 3), "proprio": vector(1)}))
    with pytest.raises(UserError, match="control_frequency"):
        spec_of_env(raw)


@pytest.mark.parametrize(
    "wrong", [{"image_size": (64, 64, 3)}, {"image_size": (8,)}, {"control_frequency": 0.0}]
)
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        dataclasses.replace(AdaptConfig(), **wrong)
