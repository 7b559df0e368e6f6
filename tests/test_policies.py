"""Policies: rows are independent, seeds decide, plans are played in order."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from policies import ChunkPlayer, NoisyPolicy, RandomPolicy, ScriptedPolicy


class Expert:
    def __init__(self, env: Desk, np_random: np.random.Generator) -> None:
        self.env, self.style = env, np_random.uniform()

    def act(self) -> np.ndarray:
        return np.array([self.env.place, self.style])


class Desk(gymnasium.Env):
    """Observes a place; its expert names the place and its own style."""

    observation_space = spaces.Dict({"proprio": spaces.Box(-1, 1, (1,), np.float32)})
    action_space = spaces.Box(np.float32([-1, 0]), np.float32([1, 5]))
    place = 0.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform()
        return {"proprio": np.float32([self.place])}, {}

    def expert(self, np_random: np.random.Generator) -> Expert:
        return Expert(self, np_random)


class Unscripted(gymnasium.Env):
    observation_space = action_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)


OBS = {"proprio": np.zeros((3, 1), np.float32)}


def test_random_actions_fill_the_box_and_repeat_from_the_seed():
    policy = RandomPolicy(Desk())
    policy.reset([4, 5, 4])
    first = np.stack([policy.act(OBS) for _ in range(200)])
    assert first.dtype == np.float32
    assert first.shape == (200, 3, 2)
    assert (first[:, 0] == first[:, 2]).all()
    assert (first[:, 0] != first[:, 1]).any()
    assert np.allclose(first.min((0, 1)), [-1, 0], atol=0.1)
    assert np.allclose(first.max((0, 1)), [1, 5], atol=0.1)


def test_a_masked_reset_leaves_the_other_rows_alone():
    plain, masked = RandomPolicy(Desk()), RandomPolicy(Desk())
    for policy in (plain, masked):
        policy.reset([1, 2, 3])
        policy.act(OBS)
    masked.reset([7, 1, 7], mask=np.array([False, True, False]))
    after, untouched = masked.act(OBS), plain.act(OBS)
    assert (after[[0, 2]] == untouched[[0, 2]]).all()
    plain.reset([1, 2, 3])
    assert (after[1] == plain.act(OBS)[0]).all()


def test_random_refuses_an_unbounded_box():
    with pytest.raises(ValueError, match="bounded"):
        RandomPolicy(Unscripted())


def test_scripted_plays_the_env_s_expert_in_one_env_and_in_many():
    env = Desk()
    env.reset(seed=3)
    policy = ScriptedPolicy(env)
    policy.reset([3])
    action = policy.act({"proprio": np.zeros((1, 1))})
    assert action.shape == (1, 2)
    assert action[0, 0] == np.float32(env.place)
    assert action[0, 1] != action[0, 0]  # the style is not the scene's own draw

    many = gymnasium.vector.SyncVectorEnv([Desk, Desk])
    many.reset(seed=[9, 3])
    policy = ScriptedPolicy(many)
    policy.reset([9, 3])
    assert (policy.act({})[1] == action[0]).all()


def test_scripted_says_when_there_is_no_expert():
    with pytest.raises(ValueError, match=r"Unscripted has no scripted expert.*policy=random"):
        ScriptedPolicy(Unscripted())


def test_scripted_says_when_the_expert_makes_no_mistakes():
    with pytest.raises(ValueError, match=r"Desk has no mistaken expert.*mistaken=0"):
        ScriptedPolicy(Desk(), mistaken=True)


class CountingPlanner:
    """Plans whose numbers tell row seed, draw and place: seed + 100 draw + place / 10."""

    def __init__(self, H: int) -> None:
        self.H, self.calls = H, []

    def __call__(self, obs, rows, seeds, draws):
        self.calls.append(rows.tolist())
        assert len(obs["proprio"]) == len(rows)
        plan = seeds[:, None] + 100 * draws[:, None] + np.arange(self.H)[None] / 10
        return plan[..., None].astype(np.float32)  # (n, H, 1)


def test_a_plan_is_played_in_order_and_replaced_after_replan_steps():
    planner = CountingPlanner(H=4)
    player = ChunkPlayer(planner, replan=3)
    player.reset([1, 2, 3])
    played = np.stack([player.act(OBS)[:, 0] for _ in range(5)])
    assert np.allclose(played[:, 0], [1, 1.1, 1.2, 101, 101.1])
    assert np.allclose(played[:, 2], [3, 3.1, 3.2, 103, 103.1])
    assert planner.calls == [[0, 1, 2], [0, 1, 2]]


def test_only_the_rows_that_start_anew_are_planned_for():
    planner = CountingPlanner(H=4)
    player = ChunkPlayer(planner, replan=4)
    player.reset([1, 2, 3])
    player.act(OBS)
    player.reset([0, 7, 0], mask=np.array([False, True, False]))
    assert player.due.tolist() == [1]
    assert np.allclose(player.act(OBS)[:, 0], [1.1, 7, 3.1])
    assert planner.calls == [[0, 1, 2], [1]]


def test_chunks_shorter_than_replan_and_resets_that_do_not_fit_are_refused():
    player = ChunkPlayer(CountingPlanner(H=2), replan=3)
    player.reset([1, 2, 3])
    with pytest.raises(ValueError, match="replan no later"):
        player.act(OBS)
    with pytest.raises(ValueError, match="at least 1 step"):
        ChunkPlayer(CountingPlanner(H=2), replan=0)
    with pytest.raises(ValueError, match="must start all"):
        player.reset([1, 2], mask=np.array([True, False]))
    with pytest.raises(ValueError, match="one of each per env"):
        player.reset([1, 2, 3], mask=np.array([True]))


def test_noise_comes_from_the_row_s_seed_and_stays_in_the_box():
    class Still:
        def reset(self, seeds, mask=None):
            pass

        def act(self, obs):
            return np.zeros((len(obs["proprio"]), 2), np.float32)

    noisy = NoisyPolicy(Still(), 0.5)
    noisy.reset([7, 1, 7])
    first = noisy.act(OBS)
    assert (first[0] == first[2]).all()
    assert (first[0] != first[1]).all()
    many = np.concatenate([noisy.act(OBS) for _ in range(300)])
    assert np.abs(many).max() == 1.0
    assert 0.4 < many.std() < 0.55
    noisy.reset([7, 1, 7], mask=np.array([True, False, False]))
    assert (noisy.act(OBS)[0] == first[0]).all()
    with pytest.raises(ValueError, match="at least 0"):
        NoisyPolicy(Still(), -1.0)
