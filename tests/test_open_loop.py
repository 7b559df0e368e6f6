"""A policy that acts on what a model imagines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny import SIDE, A, C, P, tiny_model

from policies.open_loop import OpenLoopPolicy
from worldmodel.imagined_episodes import play
from worldmodel.policy_config import PolicyConfig
from worldmodel.rollout import RolloutConfig
from worldmodel.starts import Starts, starts_from

SAMPLER = RolloutConfig(flow_steps=1, precision="fp32", context_noise=0.0)


class Follower:
    """Acts by what it sees: any change of the pictures changes its actions."""

    def reset(self, seeds, mask=None) -> None:
        self.seen: list[dict[str, Any]] = []

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        self.seen.append(obs)
        grey = [obs[name].astype(np.float32).mean((1, 2, 3)) for name in obs if name != "proprio"]
        return np.stack([np.sin(grey[0] + k) for k in range(A)], axis=1)


def observation(seed: int, rows: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    names = tiny_model().spec.cameras
    pictures = rng.integers(0, 256, (rows, len(names), SIDE, SIDE, 3), dtype=np.uint8)
    obs: dict[str, np.ndarray] = {name: pictures[:, c] for c, name in enumerate(names)}
    return {**obs, "proprio": rng.normal(size=(rows, P)).astype(np.float32)}


def test_it_sees_the_first_observation_and_then_what_is_imagined() -> None:
    torch.manual_seed(0)
    model, first = tiny_model().eval(), observation(0)
    blind, other = (OpenLoopPolicy(Follower(), model, SAMPLER) for _ in range(2))
    for policy in (blind, other):
        policy.reset([3, 4])
    actions = [blind.act(first)] + [blind.act(observation(n)) for n in (1, 2, 3)]
    again = [other.act(first)] + [other.act(observation(n)) for n in (7, 8, 9)]
    assert np.array_equal(actions, again)  # whatever there is to see later
    other.reset([3, 4])
    assert not np.array_equal(actions[0], other.act(observation(5)))
    assert len(first) == C + 1


def test_its_actions_are_those_of_an_imagined_episode() -> None:
    model, first = tiny_model().eval(), observation(0, rows=1)
    rows = [{name: value[0] for name, value in first.items()}]
    starts: Starts = starts_from(rows, model.spec)
    [(_, dreamt)] = play(Follower(), starts, model, 6, SAMPLER, seed=3)
    policy = OpenLoopPolicy(Follower(), model, SAMPLER)
    policy.reset([3])
    acted = [policy.act(first if n == 0 else observation(n, 1))[0] for n in range(len(dreamt))]
    assert np.allclose(acted[0], dreamt.action[0])
    assert np.allclose(policy.policy.seen[0]["proprio"], dreamt.proprio[:1])


def test_rows_begin_anew_on_their_own() -> None:
    model, first = tiny_model().eval(), observation(0)
    mixed, alone = (OpenLoopPolicy(Follower(), model, SAMPLER) for _ in range(2))
    for policy in (mixed, alone):
        policy.reset([3, 4])
        policy.act(first)
    second = observation(1)
    mixed.reset([3, 9], mask=np.array([False, True]))
    got, kept = mixed.act(second), alone.act(second)
    assert np.allclose(got[0], kept[0], atol=1e-5)
    fresh = OpenLoopPolicy(Follower(), model, SAMPLER)
    fresh.reset([9])
    expected = fresh.act({name: value[1:] for name, value in second.items()})
    assert np.allclose(got[1], expected[0], atol=1e-5)


def test_inside_goes_with_a_checkpoint() -> None:
    with pytest.raises(ValueError, match="inside"):
        PolicyConfig(name="scripted", inside="pick_can_tiny")
