"""Choosing among plans: scores against hand-made outcomes, the choice, the budget."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
import torch
from test_imagined_env import model as reading
from test_imagined_env import starts
from tiny import A, H, tiny_model

from policies import planner
from policies.flow_policy import FlowPolicy
from policies.planner import PlanningPolicy
from worldmodel.dataset import DISCOUNT
from worldmodel.errors import UserError
from worldmodel.model import WorldModel
from worldmodel.policy_config import PolicyConfig
from worldmodel.rollout import RolloutConfig
from worldmodel.search import score_plans

CONFIG = RolloutConfig(flow_steps=1, precision="fp32")


def observation(n: int) -> dict[str, np.ndarray]:
    begin = starts(n)
    return {
        "front": begin.images[:, 0], "wrist": begin.images[:, 1], "proprio": begin.proprio,
    }  # fmt: skip


@pytest.mark.parametrize("doubt", [-20.0, 0.0])
@pytest.mark.parametrize("logit", [-20.0, 0.0, 20.0])
def test_a_plan_earns_its_rewards_while_the_episode_goes_on(logit: float, doubt: float) -> None:
    """Reward 0.25 at every step, value 0, and these chances of success and of having strayed."""
    images, proprio = starts(2).take(np.arange(2))
    plans = torch.zeros(2, 3, H, A)
    model = reading(logit)
    model.doubt[-1] = doubt
    scores = score_plans(model, images, proprio, plans, 3, torch.Generator().manual_seed(0), CONFIG)
    on = 1 - max(1 / (1 + np.exp(-logit)), 1 / (1 + np.exp(5.0)))
    on *= 1 - 1 / (1 + np.exp(-doubt))
    expected = 0.25 * sum((DISCOUNT * on) ** k for k in range(3))
    assert scores.shape == (2, 3)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-4)


def test_the_best_of_the_policys_own_plans_is_played(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def score(model, images, proprio, plans, steps, generators, config) -> torch.Tensor:
        seen.append(plans)
        assert len(generators) == plans.shape[0] * plans.shape[1]
        return plans.flatten(2).sum(dim=2)  # the one that goes furthest to the right, up and so on

    monkeypatch.setattr(planner, "score_plans", score)
    policy = FlowPolicy(tiny_model().eval(), replan=2)
    policy.reset([4, 5])
    alone = policy.act(observation(2))
    planning = PlanningPolicy(FlowPolicy(tiny_model().eval(), replan=2), candidates=4)
    planning.reset([4, 5])
    first = planning.act(observation(2))
    plans = seen[0].numpy()
    assert plans.shape == (2, 4, H, A)
    np.testing.assert_allclose(plans[:, 0, 0], alone, atol=1e-5)  # the policy's is among them
    scores = seen[0].flatten(2).sum(dim=2).numpy()
    assert np.unique(scores).size == 8
    best = scores.argmax(axis=1)
    np.testing.assert_array_equal(first, plans[np.arange(2), best, 0])
    second = planning.act(observation(2))
    np.testing.assert_array_equal(second, plans[np.arange(2), best, 1])
    assert len(seen) == 1
    planning.act(observation(2))
    assert len(seen) == 2


def test_another_model_may_imagine_the_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[WorldModel] = []

    def score(model, images, proprio, plans, steps, generators, config) -> torch.Tensor:
        asked.append(model)
        return plans[:, :, 0, 0]

    monkeypatch.setattr(planner, "score_plans", score)
    policy, world = FlowPolicy(tiny_model().eval()), tiny_model(window=2).eval()
    planning = PlanningPolicy(policy, candidates=2, world=world)
    planning.reset([4])
    planning.act(observation(1))
    assert asked == [world]
    other = dataclasses.replace(world.spec, proprio_names=tuple("abcd")[: world.spec.P])
    world.spec = other
    with pytest.raises(UserError, match="proprio"):
        PlanningPolicy(policy, candidates=2, world=world)
    with pytest.raises(ValueError, match="candidates"):
        PolicyConfig(name="checkpoint", path="a", world="b")


def test_a_row_plans_the_same_whatever_stands_beside_it() -> None:
    together, apart = (
        PlanningPolicy(FlowPolicy(tiny_model().eval()), candidates=3, config=CONFIG) for _ in "ab"
    )
    together.reset([7, 8])
    apart.reset([8])
    obs = observation(2)
    both, one = together.act(obs), apart.act({k: v[1:] for k, v in obs.items()})
    np.testing.assert_allclose(both[1], one[0], atol=2e-2)


def test_a_budget_sets_how_many_candidates_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    planning = PlanningPolicy(FlowPolicy(tiny_model().eval(), replan=2), 64, budget_ms=50.0)
    planning.reset([0])
    rows = np.arange(1)
    seconds = {1: 0.01, 2: 0.03, 4: 0.09, 8: 0.27}
    clock = [0.0]

    def best(obs, rows, seeds, draws, candidates) -> np.ndarray:
        clock[0] += seconds[candidates]
        return np.zeros((1, H, A), np.float32)

    monkeypatch.setattr(planning, "_best", best)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    planning._plan(observation(1), rows, rows, rows)
    assert planning.candidates == 4  # 0.09 s for two actions of 50 ms
    monkeypatch.undo()
    short = PlanningPolicy(FlowPolicy(tiny_model().eval(), replan=1), 64, budget_ms=1e-6)
    short.reset([0])
    with pytest.raises(UserError, match="too little for a single plan"):
        short.act(observation(1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"candidates": 0}, "candidates: got 0"),
        ({"steps": H + 1}, f"expected 1 to {H}"),
        ({"budget_ms": 0.0}, "positive number"),
    ],
)
def test_senseless_settings_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        PlanningPolicy(FlowPolicy(tiny_model()), **arguments)
