"""The model as a policy: rows don't influence one another, seeds repeat, bad input is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from tiny import SIDE, A, P, tiny_model, tiny_spec

from policies.flow_policy import FlowPolicy
from worldmodel import checkpoint
from worldmodel.errors import UserError


def observations(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    images = {
        name: rng.integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)
        for name in ("front", "wrist")
    }
    return images | {"proprio": rng.normal(size=(n, P)).astype(np.float32)}


def rows(obs: dict[str, np.ndarray], chosen) -> dict[str, np.ndarray]:
    return {name: value[chosen] for name, value in obs.items()}


@pytest.fixture(scope="module")
def policy() -> FlowPolicy:
    return FlowPolicy(tiny_model().eval(), replan=2, flow_steps=3)


def test_actions_are_finite_in_range_and_of_the_right_shape(policy: FlowPolicy) -> None:
    policy.reset([1, 2, 3])
    for step in range(5):
        action = policy.act(observations(3, step))
        assert action.shape == (3, A)
        assert action.dtype == np.float32
        assert np.abs(action).max() <= 1


def test_a_row_acts_the_same_alone_and_in_a_batch(policy: FlowPolicy) -> None:
    policy.reset([1, 2, 3])
    together = [policy.act(observations(3, step)) for step in range(4)]
    for i, seed in enumerate([1, 2, 3]):
        policy.reset([seed])
        for step in range(4):
            alone = policy.act(rows(observations(3, step), [i]))
            np.testing.assert_allclose(alone[0], together[step][i], atol=1e-5)


def test_seeds_repeat_and_differ(policy: FlowPolicy) -> None:
    obs = observations(1)
    actions = []
    for seed in (5, 5, 6):
        policy.reset([seed])
        actions.append(policy.act(obs))
    assert np.array_equal(actions[0], actions[1])
    assert not np.array_equal(actions[0], actions[2])


def test_a_row_that_starts_anew_leaves_the_others_alone(policy: FlowPolicy) -> None:
    obs = observations(2)
    policy.reset([1, 2])
    policy.act(obs)
    expected = policy.act(obs)  # the second action of both plans
    policy.reset([1, 2])
    policy.act(obs)
    policy.reset([9, 2], mask=np.array([True, False]))
    found = policy.act(obs)
    np.testing.assert_array_equal(found[1], expected[1])
    assert not np.array_equal(found[0], expected[0])


def test_observations_that_do_not_fit_are_named(policy: FlowPolicy) -> None:
    policy.reset([1])
    obs = observations(1)
    with pytest.raises(UserError, match=r"'wrist'.*expected \(N, 16, 16, 3\).*got only"):
        policy.act({k: v for k, v in obs.items() if k != "wrist"})
    with pytest.raises(UserError, match=r"'proprio'.*\(1, 3\)"):
        policy.act({**obs, "proprio": obs["proprio"][:, :3]})
    with pytest.raises(UserError, match="NaN"):
        policy.act({**obs, "proprio": obs["proprio"] * np.nan})


class Other(gym.Env):
    """Spaces that miss a camera, have another proprioception, or another number of actions."""

    def __init__(self, cameras=("front", "wrist"), proprio: int = P, actions: int = A) -> None:
        image = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
        vector = spaces.Box(-np.inf, np.inf, (proprio,), np.float32)
        self.observation_space = spaces.Dict({c: image for c in cameras} | {"proprio": vector})
        self.action_space = spaces.Box(-1, 1, (actions,), np.float32)
        self.control_frequency = 10.0


def test_an_env_with_other_spaces_is_refused_with_both_sides_named(tmp_path) -> None:
    checkpoint.save(tmp_path, tiny_model(), {})
    assert FlowPolicy.load(tmp_path, env=Other()).spec == tiny_spec()
    with pytest.raises(UserError, match=r"'wrist': the policy expects \(16, 16, 3\).*none"):
        FlowPolicy.load(tmp_path, env=Other(cameras=("front",)))
    with pytest.raises(UserError, match=rf"'proprio': the policy expects \({P},\).*\(9,\)"):
        FlowPolicy.load(tmp_path, env=Other(proprio=9))
    with pytest.raises(UserError, match=rf"action: the policy gives \({A},\)"):
        FlowPolicy.load(tmp_path, env=Other(actions=2))


def test_options_out_of_range_are_refused() -> None:
    model = tiny_model()
    with pytest.raises(UserError, match="replan: got 9, expected 1 to 4"):
        FlowPolicy(model, replan=9)
    with pytest.raises(UserError, match="flow_steps: got 0"):
        FlowPolicy(model, flow_steps=0)


def test_a_loaded_model_equals_the_saved_one(tmp_path) -> None:
    model = tiny_model().eval()
    checkpoint.save(tmp_path, model, {"note": "hello"})
    loaded = checkpoint.load(tmp_path)
    assert loaded.about == {"note": "hello"}
    assert dataclasses.asdict(loaded.model.config) == dataclasses.asdict(model.config)
    first, second = FlowPolicy(model), FlowPolicy(loaded.model)
    for policy in (first, second):
        policy.reset([3])
    np.testing.assert_array_equal(first.act(observations(1)), second.act(observations(1)))


def test_a_compact_checkpoint_is_half_as_large_and_nearly_the_same(tmp_path: Path) -> None:
    model = tiny_model()
    checkpoint.save(tmp_path / "whole", model, {"note": "hello"})
    checkpoint.compact(tmp_path / "whole", tmp_path / "half")
    sizes = [(tmp_path / name / checkpoint.WEIGHTS).stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.7 * sizes[0]  # headers are large beside so small a model
    loaded = checkpoint.load(tmp_path / "half")
    assert loaded.about == {"note": "hello"}
    assert all(p.dtype == torch.float32 for p in loaded.model.parameters())
    pairs = zip(model.named_parameters(), loaded.model.parameters(), strict=True)
    for (name, before), after in pairs:
        exact = before.ndim == 1 or name.startswith(checkpoint.EXACT)
        torch.testing.assert_close(after, before, atol=0, rtol=0 if exact else 2**-8)
