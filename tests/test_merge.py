"""Merging: nothing is lost, nothing is made up, and what does not belong together is refused."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import ToyEnv, ToyPolicy, collect_toys

from worldmodel.check import check
from worldmodel.collect import CollectConfig, collect
from worldmodel.dataset import STREAMS, Dataset
from worldmodel.errors import UserError
from worldmodel.merge import MergeConfig, merge


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episodes from which no plan may be learned, some of them failures."""
    out = tmp_path_factory.mktemp("others") / "others"
    config = CollectConfig(episodes=5, seed=7, workers=1, per_file=2, keep="all", teach=False)
    collect_toys(out, lazy=2, config=config)
    return out


def test_a_merged_dataset_is_both_one_behind_the_other(toys, others, tmp_path) -> None:
    for name, source in (("a", others), ("b", toys)):
        shutil.copytree(source, tmp_path / name)
    told: list[int] = []
    summary = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c", lambda n, _: told.append(n))
    whole, parts = Dataset(tmp_path / "c"), [Dataset(tmp_path / n) for n in "ab"]
    assert told == [5, 8]
    assert summary["episodes"] == len(whole) == 13
    assert [e.demonstration for e in whole.episodes] == [False] * 5 + [True] * 8
    assert [e.success for e in whole.episodes] == [e.success for p in parts for e in p.episodes]
    assert not all(e.success for e in whole.episodes)
    for name in STREAMS:
        both = np.concatenate([part.stream(name) for part in parts])
        assert np.array_equal(whole.stream(name), both)
    assert [e.index for e in whole.episodes] == list(range(13))
    assert check(tmp_path / "c").ok
    # and its parts may go
    shutil.rmtree(tmp_path / "a")
    shutil.rmtree(tmp_path / "c" / "cache")
    assert np.array_equal(Dataset(tmp_path / "c").stream("images"), whole.stream("images"))


def test_merging_again_is_merging(toys, others, tmp_path) -> None:
    merge([toys, others], tmp_path / "once")
    merge([tmp_path / "once", toys], tmp_path / "twice")
    images = [Dataset(p).stream("images") for p in (tmp_path / "twice", toys)]
    assert np.array_equal(images[0][: len(images[1])], images[1])
    assert np.array_equal(images[0][-len(images[1]) :], images[1])


def test_what_does_not_belong_together_is_refused(toys, tmp_path) -> None:
    slower = CollectConfig(episodes=2, seed=1, workers=1)
    collect(partial(ToyEnv, frequency=5.0), ToyPolicy, slower, tmp_path / "slow")
    with pytest.raises(UserError, match=r"control_frequency: .*10\.0"):
        merge([toys, tmp_path / "slow"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="already holds a dataset"):
        merge([toys, toys], tmp_path / "slow")
    with pytest.raises(ValueError, match="at least two"):
        MergeConfig(("data/a", "data/a"))


def test_half_a_dataset_is_not_left(toys, others, tmp_path) -> None:
    shutil.copytree(others, tmp_path / "broken")
    next((tmp_path / "broken").rglob("*.mp4")).unlink()
    with pytest.raises(UserError, match=r"\.mp4 is missing"):
        merge([toys, tmp_path / "broken"], tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.*"))
