"""docs/world.py and its feed: what goes through it is what a dataset would hold."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ToyEnv, ToyPolicy
from test_tables import script

from worldmodel.collect import CollectConfig, collect, crew, gather
from worldmodel.dataset import Dataset
from worldmodel.env_config import EnvConfig
from worldmodel.policy_config import PolicyConfig
from worldmodel.spec import spec_of_env

CPU = torch.device("cpu")
CONFIG = CollectConfig(episodes=6, explore=0.5, per_file=3, seed=500, workers=1)


@pytest.fixture
def feeder(monkeypatch: pytest.MonkeyPatch):
    return script("world_feed", monkeypatch)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, feeder):
    return script("world", monkeypatch)


def test_what_is_fed_is_what_the_same_command_writes(world, feeder, tmp_path: Path) -> None:
    toy = partial(ToyEnv, size=(16, 16))
    collect(toy, ToyPolicy, CONFIG, tmp_path / "data")
    spec, feed = spec_of_env(toy()), tmp_path / "feed"
    feed.mkdir()
    for k in range(2):
        episodes, shown, _ = gather(crew(toy, ToyPolicy, CONFIG, spec), k)
        feeder.write(feed / f"{k}.npz", spec, episodes, shown)
    fed, dataset = world.Fed(feed, CPU), Dataset(tmp_path / "data")
    assert fed.look()
    assert not fed.look()
    assert not list(feed.iterdir())  # what was taken does not stay in memory
    ours, theirs = fed.windows(3, 4), dataset.windows(3, 4, range(6))
    assert len(ours) == len(theirs)
    every = np.arange(len(ours))
    a, b = ours.get(every), theirs.get(every)
    for name in a._fields:
        left, right = np.asarray(getattr(a, name)), np.asarray(getattr(b, name))
        assert left.shape == right.shape
        if left.dtype == np.uint8:  # videos lose a little
            assert np.abs(left.astype(int) - right).mean() < 3
        else:
            assert np.array_equal(left, right), name
    both = world.Fed(feed, CPU)
    both.add_dataset(dataset)
    assert str(both) == str(fed)
    more, shown, _ = gather(crew(toy, ToyPolicy, replace(CONFIG, seed=900), spec), 0)
    feeder.write(feed / "2.npz", spec, more, shown)
    assert both.look()  # the room for frames grows, and what was there stays
    again = both.windows(3, 4).get(every)
    assert np.array_equal(np.asarray(again.images), b.images)


def test_acted_out_again_an_episode_is_the_same(feeder, tmp_path: Path) -> None:
    env = EnvConfig("worldmodel/PickCan-v0", options={"pose": "mixed", "image_size": 16})
    feeder.ENV = env
    spec = spec_of_env(feeder.envs(1)[0])
    config = CollectConfig(episodes=1, per_file=1, seed=70)
    feeder.collect(tmp_path, spec, config, 0, PolicyConfig())
    once = feeder.load(tmp_path / "70-00000.npz")
    n = int(once["length"][0])
    for steps in (n, 5):
        feeder.act_out(tmp_path, spec, [70], once["action"][None, :steps])
        again = feeder.load(tmp_path / "70.npz")
        assert again["length"][0] == steps
        assert again["success"][0] == (steps == n)
        for name in ("images", "proprio"):
            assert np.array_equal(again[name], once[name][: steps + 1])
    assert not again["shown"].any()
