"""DataSpec: there and back, and errors that name both sides."""

from __future__ import annotations

import dataclasses
import json

import gymnasium
import numpy as np
import pytest
from conftest import ToyEnv
from gymnasium import spaces

from worldmodel.errors import UserError
from worldmodel.spec import DataSpec, FeatureStats, check_compatible, check_env, spec_of_env


def test_a_spec_survives_json_and_says_what_is_missing() -> None:
    values = np.random.default_rng(0).normal(size=(50, 3))
    spec = dataclasses.replace(spec_of_env(ToyEnv()), proprio_stats=FeatureStats.of(values))
    text = json.dumps(spec.to_json())
    assert DataSpec.from_json(json.loads(text)) == spec
    assert (spec.P, spec.A, spec.image_size) == (3, 3, (18, 22))
    broken = {k: v for k, v in json.loads(text).items() if k != "cameras"}
    with pytest.raises(UserError, match="cameras"):
        DataSpec.from_json(broken)


def test_statistics_are_those_written_out() -> None:
    x = np.array([[0.0, 2.0], [1.0, 4.0], [2.0, 9.0]])
    stats = FeatureStats.of(x)
    assert stats.mean == (1.0, 5.0)
    assert stats.std == pytest.approx([np.sqrt(2 / 3), np.sqrt(26 / 3)])
    assert (stats.min, stats.max, stats.count) == ((0.0, 2.0), (2.0, 9.0), 3)
    assert stats.q01[0] == pytest.approx(0.02)


def test_spaces_that_do_not_fit_are_named_on_both_sides() -> None:
    env = ToyEnv()
    spec = spec_of_env(env)
    check_env(spec, env)
    with pytest.raises(UserError, match=r"\(18, 22, 3\).*\(32, 32, 3\)"):
        check_env(spec, ToyEnv(size=(32, 32)))
    env.action_space = spaces.Box(-1, 1, (5,), np.float32)
    with pytest.raises(UserError, match=r"gives \(3,\), the env takes"):
        check_env(spec, env)


@pytest.mark.parametrize("name", ["control_frequency", "proprio_names", "action_names"])
def test_an_env_that_means_other_things_by_the_same_shapes_is_refused(name: str) -> None:
    env = ToyEnv()
    spec = dataclasses.replace(spec_of_env(env), env="Toy-v0")
    check_env(spec, env)
    told = getattr(spec, name)
    other = 25.0 if name == "control_frequency" else tuple(f"other_{x}" for x in told)
    setattr(env, name, other)
    with pytest.raises(UserError, match=f"{name}: the policy learned with"):
        check_env(spec, env)
    check_env(dataclasses.replace(spec, env=""), env)  # data from elsewhere have names of their own


@pytest.mark.parametrize(
    ("change", "words"),
    [({"control_frequency": 20.0}, "10.0.*20.0"), ({"cameras": ("front",)}, "wrist")],
)
def test_data_of_another_frequency_or_camera_set_are_refused(change: dict, words: str) -> None:
    spec = spec_of_env(ToyEnv())
    check_compatible(spec, spec)
    with pytest.raises(UserError, match=words):
        check_compatible(spec, dataclasses.replace(spec, **change))


def test_an_env_without_images_or_proprio_is_refused() -> None:
    with pytest.raises(UserError, match="expected a Dict"):
        spec_of_env(gymnasium.make("CartPole-v1"))
