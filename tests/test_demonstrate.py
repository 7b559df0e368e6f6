"""One episode under way: who leads, what is disturbed, and when it ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ToyEnv, ToyPolicy, collect_toys

from worldmodel.collect import CollectConfig, collect
from worldmodel.dataset import Dataset
from worldmodel.demonstrate import executor, run_episodes
from worldmodel.disturbance import Disturbance, Exploration, stretch
from worldmodel.errors import UserError
from worldmodel.spec import spec_of_env


def test_an_episode_lingers_after_its_success_which_is_paid_for_once(tmp_path: Path) -> None:
    """Beside the same episodes that end there; a failure is over at once."""
    config = CollectConfig(episodes=4, seed=100, workers=1, keep="all")
    for n in (0, 3):
        collect_toys(tmp_path / str(n), config=replace(config, linger=n), lazy=2)
    a, b = Dataset(tmp_path / "0"), Dataset(tmp_path / "3")
    won = [e.success for e in a.episodes]
    assert won == [e.success for e in b.episodes] == [False, True, False, True]
    for e, f in zip(a.episodes, b.episodes, strict=True):
        assert f.length == e.length + 3 * e.success
        assert e.outcome == f.outcome
        ours, theirs = (
            {k: d.stream(k)[g.start : g.start + g.length + 1] for k in ("proprio", "outcome")}
            for d, g in ((a, e), (b, f))
        )
        n = e.length + 1
        np.testing.assert_array_equal(ours["proprio"], theirs["proprio"][:n])
        np.testing.assert_array_equal(ours["outcome"][:, :3], theirs["outcome"][:n, :3])
        success, reward, terminated, value = theirs["outcome"][n:].T
        assert (success == 1).all()
        assert (terminated == 1).all()
        assert not reward.any()
        assert not value.any()


class Praised(ToyEnv):
    """Tells success once, which ends nothing: only its clock does."""

    def step(self, action):
        obs, _, _, truncated, info = super().step(action)
        return obs, 1.0, False, truncated, {**info, "success": self.n == 3, "outcome": str(self.n)}


@pytest.mark.parametrize("linger", [0, 2])
def test_a_success_that_ends_nothing_ends_nothing(linger: int) -> None:
    env = Praised(limit=6)
    spec, config = spec_of_env(env), CollectConfig()
    disturb = [executor(spec, 1, config, phases=False)]
    (episode,) = run_episodes([env], ToyPolicy(env), spec, [1], disturb, linger=linger)
    assert episode.success.tolist() == [n == 3 for n in range(1, 7)]
    assert (episode.reward == 1).all()
    assert not episode.terminated.any()
    assert episode.outcome == "6"


def test_noise_is_executed_and_the_clean_action_is_the_label() -> None:
    env = ToyEnv()
    spec = spec_of_env(env)
    noisy = CollectConfig(episodes=1, action_noise=0.3, burst=1.0)
    how = executor(spec, 104, noisy, phases=False)
    episode = run_episodes([env], ToyPolicy(env), spec, [104], [how])[0]
    wanted = ToyPolicy(env)
    wanted.reset([104])
    for n in range(len(episode)):
        assert np.array_equal(
            wanted.act({"proprio": episode.proprio[n : n + 1]})[0], episode.label[n]
        )
    assert not np.array_equal(episode.action, episode.label)
    assert np.abs(episode.action).max() <= 1
    clean = CollectConfig(episodes=1, action_noise=0, burst=0)
    how = executor(spec, 104, clean, phases=False)
    episode = run_episodes([env], ToyPolicy(env), spec, [104], [how])[0]
    assert np.array_equal(episode.action, episode.label)


class Away:
    """Walks off, whatever it sees."""

    def __init__(self, env: ToyEnv) -> None:
        pass

    def reset(self, seeds, mask=None) -> None:
        pass

    def act(self, obs) -> np.ndarray:
        return np.tile(np.array([0.5, 0.25, -1.0], np.float32), (len(obs["proprio"]), 1))


def test_a_student_leads_for_a_stretch_and_the_policy_says_what_it_would_do(tmp_path) -> None:
    config = CollectConfig(
        episodes=6, seed=100, workers=1, action_noise=0, burst=0, explore=0.34, mistaken=0,
        student="away",
    )  # fmt: skip
    collect(ToyEnv, ToyPolicy, config, tmp_path, make_student=Away)
    dataset, teacher = Dataset(tmp_path), ToyPolicy(ToyEnv())
    action, label = dataset.stream("action"), dataset.stream("label")
    for i, episode in enumerate(dataset.episodes):
        at = slice(episode.start, episode.start + episode.length)
        teacher.reset([100 + i])
        wanted = teacher.act({"proprio": dataset.stream("proprio")[at]})
        np.testing.assert_allclose(label[at], wanted, atol=1e-6)
        led = (action[at] == Away(ToyEnv()).act({"proprio": wanted})).all(axis=1)
        steps = stretch(np.random.default_rng([episode.seed, 2]))
        expected = [not config.explores(i) and n in steps for n in range(episode.length)]
        assert led.tolist() == expected
        apart = (action[at] != label[at]).any(axis=1)
        assert config.explores(i) or apart.tolist() == expected
    assert action.shape[0] > 0
    with pytest.raises(UserError, match="student was away, is other"):
        collect(ToyEnv, ToyPolicy, replace(config, student="other"), tmp_path, make_student=Away)


def test_noise_is_correlated_and_spares_the_gripper_outside_of_pushes() -> None:
    config = CollectConfig(action_noise=0.3, burst=0.0)
    pairs = []
    for seed in range(40):
        disturb = Disturbance(ToyEnv.action_names, config, np.random.default_rng(seed))
        wanted = np.array([0.0, 0.0, 1.0], np.float32)
        executed = np.stack([disturb(wanted, n) for n in range(60)])
        assert (executed[:, 2] == 1).all()
        pairs.append(np.corrcoef(executed[20:-1, 0], executed[21:, 0])[0, 1])
    assert 0.5 < np.mean(pairs) < 0.8


def test_an_exploration_goes_through_all_of_its_phases() -> None:
    seen: dict[str, list[np.ndarray]] = {}
    wanted = np.array([0.5, 0.0, 1.0], np.float32)
    for seed in range(30):
        explore = Exploration(ToyEnv.action_names, np.random.default_rng(seed))
        for n in range(60):
            action = explore(wanted, n)
            assert np.abs(action).max() <= 1
            seen.setdefault(explore.phase, []).append(action)
    assert set(seen) == set(Exploration.PHASES)
    assert (np.stack(seen["contrary"])[:, 2] == -1).all()
    assert (np.stack(seen["follow"])[:, 2] == 1).all()
    assert not np.stack(seen["idle"]).any()
    assert set(np.stack(seen["wander"])[:, 2]) == {-1.0, 1.0}
    assert np.stack(seen["wander"])[:, 0].std() > 0.4
