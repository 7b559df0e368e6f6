"""Improvement inside the model: what is kept, what is trained on, and going on after a kill."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ToyEnv, ToyPolicy

from policies.flow_policy import FlowPolicy
from worldmodel import agent, checkpoint, practise
from worldmodel.agent import AgentConfig, improve
from worldmodel.collect import CollectConfig, collect
from worldmodel.dataset import Dataset
from worldmodel.errors import RunError, UserError
from worldmodel.imagined_episodes import ImaginedEpisode
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.practise import read_episodes
from worldmodel.rollout import RolloutConfig
from worldmodel.starts import Starts, draw_starts, load_starts, save_starts
from worldmodel.transformer import TransformerConfig

LONG = 5  # steps of an imagined episode


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("small")
    toy = partial(ToyEnv, size=(16, 16))
    collect(toy, ToyPolicy, CollectConfig(episodes=4, seed=100, workers=1), out)
    return Dataset(out)


def episodes(
    policy, starts, model, steps, sampler, seed, worlds
) -> list[tuple[int, ImaginedEpisode]]:
    """As worldmodel.imagined_episodes.play would: every third succeeds."""
    n, A = len(starts), model.spec.A
    return [
        (i, ImaginedEpisode(
            starts.images[[i] * (LONG + 1)], starts.proprio[[i] * (LONG + 1)],
            np.full((LONG, A), (seed + i) / 1e3, np.float32), (seed + i) % 3 == 0,
        ))
        for i in reversed(range(n))
    ]  # fmt: skip


def run(data: Dataset, out: Path, probe: object = None, **changes) -> list[dict]:
    size = ModelConfig("test", TransformerConfig(32, 2, 2, 2), patch=8, window=2, chunk=4)
    torch.manual_seed(0)
    start = WorldModel(data.spec, size).eval()
    checkpoint.save(out / "start", start, {})
    given = {"rounds": 2, "episodes": 6, "updates": 3, "batch": 4, "seed": 30, "workers": 1}
    config = AgentConfig(**(given | changes))
    begin = draw_starts(data.path, data.spec, config.rounds * config.episodes)
    return improve(
        out / "start", FlowPolicy.load, lambda: start, begin, data, config,
        RolloutConfig(flow_steps=1), out, probe,
    )  # fmt: skip


def kept(folder: Path) -> list[ImaginedEpisode]:
    return read_episodes(folder / "kept.safetensors")[0]


def test_successes_are_kept_and_a_finished_round_is_not_done_again(data, tmp_path, monkeypatch):
    monkeypatch.setattr(practise, "play", episodes)
    rounds = run(data, tmp_path)
    assert [row["imagined_success"] for row in rounds] == [pytest.approx(1 / 3)] * 2
    assert [row["imagined_steps"] for row in rounds] == [6 * LONG] * 2
    for k in range(2):
        found = kept(tmp_path / f"round-{k}")
        assert [e.success for e in found] == [True, True]
        actions = [e.action[0, 0] for e in found]
        assert actions == pytest.approx([(30 + 6 * k + i) / 1e3 for i in (0, 3)])
        assert all(len(e) == LONG and len(e.images) == len(e.proprio) == LONG + 1 for e in found)
    weights = [checkpoint.load(tmp_path / f"round-{k}/checkpoint").model for k in range(2)]
    assert not torch.equal(weights[0].read_action.weight, weights[1].read_action.weight)

    def never(*_):
        raise AssertionError("a finished round was played again")

    monkeypatch.setattr(practise, "play", never)
    assert run(data, tmp_path) == rounds


def test_a_kill_between_two_rounds_changes_nothing(data, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(practise, "play", episodes)
    run(data, tmp_path / "whole")

    def second(policy, starts, model, steps, sampler, seed, worlds):
        if seed >= 36:
            raise KeyboardInterrupt
        return episodes(policy, starts, model, steps, sampler, seed, worlds)

    monkeypatch.setattr(practise, "play", second)
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "cut")
    monkeypatch.setattr(practise, "play", episodes)
    run(data, tmp_path / "cut")
    a, b = (
        checkpoint.load(tmp_path / name / "round-1/checkpoint").model.state_dict()
        for name in ("whole", "cut")
    )
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_the_controls_keep_as_many_at_random_or_none(data, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(practise, "play", episodes)
    run(data, tmp_path / "shuffled", keep="shuffled", episodes=30, rounds=1)
    found = kept(tmp_path / "shuffled" / "round-0")
    assert len(found) == 10
    assert 0 < sum(e.success for e in found) < 10
    rounds = run(data, tmp_path / "nothing", keep="nothing")
    assert [row["kept"] for row in rounds] == [0, 0]
    assert not list((tmp_path / "nothing").rglob("kept.safetensors"))


def test_successes_in_which_things_are_pushed_are_not_kept(data, tmp_path, monkeypatch) -> None:
    """Of the starts 30 to 35 two succeed, 30 and 33; the probe says that one of them moved it."""
    monkeypatch.setattr(practise, "play", episodes)
    far = iter([0.021, 0.019])
    monkeypatch.setattr(agent, "moved", lambda probe, images: next(far))
    (row,) = run(data, tmp_path, rounds=1, probe=object())
    assert (row["imagined_success"], row["kept"]) == (pytest.approx(1 / 3), 1)
    assert kept(tmp_path / "round-0")[0].action[0, 0] == pytest.approx(0.033)


def test_nothing_to_imitate_is_an_error_that_says_what_to_do(data, tmp_path, monkeypatch) -> None:
    def lost(*args):
        return [(i, dataclasses.replace(e, success=False)) for i, e in episodes(*args)]

    monkeypatch.setattr(practise, "play", lost)
    with pytest.raises(RunError, match="begin with a better policy"):
        run(data, tmp_path)


def test_a_control_that_never_succeeds_goes_on(data, tmp_path, monkeypatch) -> None:
    def lost(*args):
        return [(i, dataclasses.replace(e, success=False)) for i, e in episodes(*args)]

    monkeypatch.setattr(practise, "play", lost)
    rounds = run(data, tmp_path, keep="shuffled")
    assert [row["kept"] for row in rounds] == [0, 0]
    assert kept(tmp_path / "round-1") == []
    assert run(data, tmp_path, keep="shuffled") == rounds


def test_half_of_what_is_trained_on_are_demonstrations(data) -> None:
    shown = sum(e.length for e in data.episodes)
    practised = [
        ImaginedEpisode(
            np.zeros((LONG + 1, 2, 16, 16, 3), np.uint8), np.zeros((LONG + 1, 3), np.float32),
            np.zeros((LONG, 3), np.float32), True,
        )
        for _ in range(3 * shown // LONG)
    ]  # fmt: skip
    windows = agent._windows(data, practised, 4)
    batch = windows.get(np.arange(len(windows)))
    imagined = ~batch.images.any(axis=(1, 2, 3, 4, 5))
    assert imagined.mean() == pytest.approx(0.5, abs=0.1)
    assert batch.plan_mask[:, 0, 0][batch.exists[:, 0]].all()  # all are imitated


def places(data: Dataset, starts: Starts) -> list[int]:
    proprio = data.stream("proprio")
    return [int(np.flatnonzero((proprio == row).all(1))[0]) for row in starts.proprio]


def test_starts_come_in_turn_and_in_the_midst_of_episodes_where_asked(data, tmp_path) -> None:
    first = {e.start for e in data.episodes}
    inside = {e.start + i for e in data.episodes for i in range(e.length)}
    assert set(places(data, load_starts(data.path, data.spec))) == first
    twice = places(data, draw_starts(data.path, data.spec, 8))
    assert set(twice[:4]) == set(twice[4:]) == first
    amid = draw_starts(data.path, data.spec, 20, within=1.0, seed=3)
    assert set(places(data, amid)) <= inside
    assert len(set(places(data, amid)) - first) > 4  # not one place of an episode
    again = draw_starts(data.path, data.spec, 20, within=1.0, seed=3)
    assert np.array_equal(amid.images, again.images)
    save_starts(tmp_path, amid)
    assert len(draw_starts(tmp_path, data.spec, 30)) == 30
    with pytest.raises(UserError, match=r"within: got 0\.5.*dataset"):
        draw_starts(tmp_path, data.spec, 8, within=0.5)
