"""Episodes imagined part by part: by any number of processes, and going on after a kill."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ToyEnv, ToyPolicy

from policies.flow_policy import FlowPolicy
from worldmodel import checkpoint, practise
from worldmodel.collect import CollectConfig, collect
from worldmodel.dataset import Dataset
from worldmodel.errors import UserError
from worldmodel.imagined_episodes import ImaginedEpisode, play
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.practise import Practice, read_episodes, write_episodes
from worldmodel.rollout import RolloutConfig
from worldmodel.starts import Starts, starts_from
from worldmodel.transformer import TransformerConfig

STEPS = 3


def load_world(place: Path) -> WorldModel:
    return checkpoint.load(place).model


def broken_world() -> WorldModel:
    raise UserError("no such world")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    size = ModelConfig("test", TransformerConfig(32, 2, 2, 2), patch=8, window=2, chunk=4)
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("made")
    toy = partial(ToyEnv, size=(16, 16))
    collect(toy, ToyPolicy, CollectConfig(episodes=2, seed=100, workers=1), place / "data")
    model = WorldModel(Dataset(place / "data").spec, size).eval()
    with torch.no_grad():  # as made, its plans don't depend on their noise
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    checkpoint.save(place, model, {})
    return place


@pytest.fixture(scope="module")
def starts(place: Path) -> Starts:
    env = ToyEnv(size=(16, 16))
    return starts_from([env.reset(seed=i)[0] for i in range(10)], load_world(place).spec)


def practice(place: Path, folder: Path) -> Practice:
    return Practice(
        partial(FlowPolicy.load, place), partial(load_world, place), STEPS,
        RolloutConfig(flow_steps=1), 70, folder,
    )  # fmt: skip


def same(a: list[ImaginedEpisode], b: list[ImaginedEpisode]) -> bool:
    return len(a) == len(b) and all(
        np.array_equal(getattr(x, name), getattr(y, name))
        for x, y in zip(a, b, strict=True)
        for name in ("images", "proprio", "action", "success")
    )


def test_any_number_of_processes_imagines_the_same(place, starts, tmp_path) -> None:
    """Three parts: 40 and 40 starts and 5."""
    many = starts.only(np.arange(85) % len(starts))
    heard: dict[int, list[bool]] = {1: [], 2: []}
    found = {
        n: practise.practise(practice(place, tmp_path / str(n)), many, n, heard[n].append)
        for n in heard
    }
    assert same(found[1], found[2])
    assert sorted(heard[1]) == sorted(heard[2]) == sorted(e.success for e in found[1])
    assert len(list((tmp_path / "2").iterdir())) == 3
    for i, episode in enumerate(found[2]):  # in the order of the starts
        assert np.array_equal(episode.proprio[0], many.proprio[i])
    assert len({e.action.tobytes() for e in found[2]}) == 85  # each has its own noise


def test_what_is_imagined_already_is_not_imagined_again(place, starts, tmp_path, monkeypatch):
    monkeypatch.setattr(practise, "PART", 4)
    whole = practise.practise(practice(place, tmp_path / "whole"), starts, 1, [].append)
    seeds: list[int] = []

    def killed(policy, starts, model, steps, sampler, seed, worlds):
        seeds.append(seed)
        if seed == 74 and seeds.count(74) == 1:
            raise KeyboardInterrupt
        yield from play(policy, starts, model, steps, sampler, seed, worlds)

    monkeypatch.setattr(practise, "play", killed)
    cut = practice(place, tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        practise.practise(cut, starts, 1, [].append)
    threads = torch.get_num_threads()
    heard: list[bool] = []
    assert same(practise.practise(cut, starts, 1, heard.append), whole)
    assert seeds == [70, 74, 74, 78]
    assert len(heard) == 10  # those from before too
    assert torch.get_num_threads() == threads


def test_what_goes_wrong_in_a_process_is_raised_here(place, starts, tmp_path) -> None:
    many = starts.only(np.arange(50) % len(starts))
    bad = Practice(partial(FlowPolicy.load, place), broken_world, 3, RolloutConfig(), 0, tmp_path)
    for workers in (1, 2):
        with pytest.raises(UserError, match="no such world"):
            practise.practise(bad, many, workers, [].append)


def test_episodes_come_back_as_they_were_written(tmp_path) -> None:
    rng = np.random.default_rng(0)
    episodes = [
        ImaginedEpisode(
            rng.integers(0, 256, (T + 1, 2, 4, 4, 3), dtype=np.uint8),
            rng.normal(size=(T + 1, 3)).astype(np.float32),
            rng.normal(size=(T, 2)).astype(np.float32), won,
        )
        for T, won in ((3, True), (1, False), (5, True))
    ]  # fmt: skip
    write_episodes(tmp_path / "some.safetensors", episodes, {"round": 2})
    found, about = read_episodes(tmp_path / "some.safetensors")
    assert same(found, episodes)
    assert about == {"round": 2}
    write_episodes(tmp_path / "none.safetensors", [], {})
    assert read_episodes(tmp_path / "none.safetensors") == ([], {})
