"""Collection: the same data however it is run, stopped or disturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import ToyEnv, ToyPolicy, collect_toys

from policies.random import RandomPolicy
from worldmodel.collect import CollectConfig, collect, share
from worldmodel.dataset import STREAMS, Dataset
from worldmodel.env_config import EnvConfig, make_env
from worldmodel.errors import RunError, UserError
from worldmodel.shards import parse_shard

SLOW = """
import sys
from pathlib import Path
from conftest import collect_toys
from worldmodel.collect import CollectConfig
if __name__ == "__main__":
    collect_toys(Path(sys.argv[1]), pause=0.01, lazy=3,
                 config=CollectConfig(episodes=10, seed=100, workers=1, per_file=2))
"""


def content(folder: Path) -> dict[str, bytes | list]:
    """Everything that is data: tables by value, videos by byte."""
    found: dict[str, bytes | list] = {}
    for part in ("data", "meta", "videos"):
        for file in sorted((folder / part).rglob("*")):
            name = str(file.relative_to(folder))
            if file.suffix == ".parquet":
                found[name] = pq.read_table(file).to_pylist()
            elif file.is_file() and file.suffix == ".mp4" and file.name[0] != ".":
                found[name] = file.read_bytes()
    return found


def test_the_number_of_workers_changes_nothing(tmp_path: Path, toys: Path) -> None:
    collect_toys(
        tmp_path / "one", config=CollectConfig(episodes=8, seed=100, workers=1, per_file=3)
    )
    assert content(tmp_path / "one") == content(toys)


def test_episodes_side_by_side_are_the_same(tmp_path: Path) -> None:
    """With a policy that acts in any number of envs, whose noise comes from each row's seed."""
    config = CollectConfig(episodes=7, seed=5, workers=1, per_file=4, explore=0.3)
    for rows in (1, 3):
        collect(
            ToyEnv, RandomPolicy, replace(config, side_by_side=rows, keep="all"),
            tmp_path / str(rows),
        )  # fmt: skip
    assert content(tmp_path / "1") == content(tmp_path / "3")


def test_shards_make_the_same_dataset(tmp_path: Path, toys: Path) -> None:
    whole = CollectConfig(episodes=8, seed=100, workers=1, per_file=3)
    for text in ("1/2", "0/2", "1/2"):  # in any order, and again
        config = replace(whole, shard=text)
        assert collect_toys(tmp_path, config=config) == {}
        assert share(config) == {"0/2": 5, "1/2": 3}[text]
        assert not (tmp_path / "meta").exists()
    written = {f.name: f.stat().st_mtime_ns for f in (tmp_path / "shards").glob("*.parquet")}
    assert sorted(written) == ["00000.parquet", "00001.parquet", "00002.parquet"]
    videos = {f: f.stat().st_mtime_ns for f in (tmp_path / "videos").rglob("*.mp4")}
    assert collect_toys(tmp_path, config=whole)["episodes"] == 8
    assert {f: f.stat().st_mtime_ns for f in videos} == videos  # nothing was collected again
    assert content(tmp_path) == content(toys)
    one, other = Dataset(tmp_path), Dataset(toys)
    assert one.episodes == other.episodes
    for name in STREAMS:
        assert np.array_equal(one.stream(name), other.stream(name))


def test_what_a_lost_shard_left_out_is_done_by_the_whole(tmp_path: Path, toys: Path) -> None:
    whole = CollectConfig(episodes=8, seed=100, workers=1, per_file=3)
    collect_toys(tmp_path, config=replace(whole, shard="1/2"))
    with pytest.raises(UserError, match="seed was 100, is 7"):
        collect_toys(tmp_path, config=replace(whole, seed=7, shard="0/2"))
    collect_toys(tmp_path, config=whole)
    assert content(tmp_path) == content(toys)


@pytest.mark.parametrize("text", ["2/2", "1", "-1/2", "1/0", "a/b", "0/2/3"])
def test_senseless_shards_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"expected i/n with i below n"):
        CollectConfig(shard=text)


def test_a_shard_can_be_what_torchrun_or_slurm_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("SLURM_") or n == "WORLD_SIZE"]:
        monkeypatch.delenv(name)
    with pytest.raises(UserError, match="neither torchrun nor SLURM"):
        parse_shard("auto")
    for name, value in (("PROCID", "1"), ("NTASKS", "3")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert parse_shard("auto") == (1, 3)
    array = {"TASK_ID": "5", "TASK_COUNT": "4", "TASK_MIN": "3", "TASK_MAX": "6"}
    for name, value in array.items():
        monkeypatch.setenv(f"SLURM_ARRAY_{name}", value)
    assert parse_shard("auto") == (2, 4)
    monkeypatch.setenv("SLURM_ARRAY_TASK_MAX", "9")
    with pytest.raises(UserError, match="without gaps"):
        parse_shard("auto")
    monkeypatch.setenv("RANK", "7")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert parse_shard("auto") == (7, 8)
    assert parse_shard("") == (0, 1)


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_where_it_was(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(SLOW)
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parent}"}

    def start(out: Path) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, str(script), str(out)], env=environment)

    def finish(out: Path) -> None:
        with start(out) as process:
            try:
                assert process.wait(100) == 0
            finally:
                process.kill()

    finish(tmp_path / "whole")
    cut = tmp_path / "cut"
    kept: list[tuple[Path, bytes]] = []
    for shards in (1, 3):
        deadline = time.monotonic() + 60
        with start(cut) as process:
            try:
                while len(done := list((cut / "shards").glob("0*.parquet"))) < shards:
                    assert process.poll() is None, "it ended before it was killed"
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            finally:
                process.send_signal(signal.SIGKILL)
        assert not (cut / "meta/info.json").exists()
        assert all(file.read_bytes() == data for file, data in kept)
        kept = [(file, file.read_bytes()) for file in done]
        for file, _ in kept:
            pq.read_table(file)
    finish(cut)
    assert content(cut) == content(tmp_path / "whole")


def test_with_calibrated_cameras_it_goes_on_as_well(tmp_path: Path) -> None:
    """Their places are tuples here and lists in the folder."""

    def stop(*_) -> None:
        raise KeyboardInterrupt

    config = CollectConfig(episodes=2, workers=1, per_file=1, keep="all")
    with pytest.raises(KeyboardInterrupt):
        collect(partial(make_env, EnvConfig()), RandomPolicy, config, tmp_path, stop)
    for _ in range(2):  # it goes on, and there is nothing left to do
        summary = collect(partial(make_env, EnvConfig()), RandomPolicy, config, tmp_path)
        assert summary["episodes"] == 2
    assert Dataset(tmp_path).spec.mounts


def test_failures_are_tried_again_or_kept(tmp_path: Path) -> None:
    def config(keep: str) -> CollectConfig:
        return CollectConfig(
            episodes=5, seed=100, workers=1, per_file=5, keep=keep, action_noise=0, burst=0
        )

    summary = collect_toys(tmp_path / "success", lazy=3, config=config("success"))
    assert (summary["episodes"], summary["attempts"]) == (5, 6)  # seed 102 is lazy, its retry not
    summary = collect_toys(tmp_path / "all", lazy=3, config=config("all"))
    assert (summary["episodes"], summary["attempts"]) == (5, 5)
    assert summary["success_rate"] == pytest.approx(4 / 5)
    with pytest.raises(RunError, match="keep=all"):
        collect_toys(tmp_path / "never", lazy=1, config=config("success"))


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    first = CollectConfig(episodes=2, seed=100, workers=1, linger=2)
    collect_toys(tmp_path, config=first)
    with pytest.raises(UserError, match=r"seed was 100, is 101.*another out="):
        collect_toys(tmp_path, config=replace(first, seed=101))
    with pytest.raises(UserError, match=r"linger was 2, is None"):
        collect_toys(tmp_path, config=replace(first, linger=0))


def test_explorations_are_spread_kept_and_not_demonstrations(tmp_path: Path) -> None:
    config = CollectConfig(episodes=8, seed=100, workers=1, per_file=3, explore=0.25)
    assert [config.explores(i) for i in range(8)] == [False, False, False, True] * 2
    summary = collect_toys(tmp_path, config=config)
    assert (summary["episodes"], summary["demonstrations"]) == (8, 6)
    dataset = Dataset(tmp_path)
    assert [e.demonstration for e in dataset.episodes] == [True, True, True, False] * 2
    for e in dataset.episodes:
        windows = dataset.windows(2, 3, [e.index])
        batch = windows.get(np.arange(len(windows)))
        assert batch.plan_mask[:, :, 0][batch.exists].all() == e.demonstration
        assert batch.plan_mask.any() == e.demonstration


def test_mistakes_are_spread_over_the_explorations() -> None:
    config = CollectConfig(explore=0.5, mistaken=0.5)
    explores = [config.explores(i) for i in range(8)]
    assert explores == [False, True] * 4
    assert [config.errs(i) for i in range(8)] == [False, False, False, True] * 2
    for explore, mistaken in ((0.375, 0.4), (1.0, 0.3), (0.6, 1.0), (0.3, 0.0)):
        config = CollectConfig(explore=explore, mistaken=mistaken)
        errs = [i for i in range(1000) if config.errs(i)]
        assert len(errs) == round(1000 * explore * mistaken)
        assert all(config.explores(i) for i in errs)


class Backward(ToyPolicy):
    """Goes the wrong way."""

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        return -super().act(obs)


def test_who_is_mistaken_acts_in_those_episodes_alone(tmp_path: Path) -> None:
    config = CollectConfig(episodes=4, seed=100, workers=1, explore=0.5)
    collect_toys(tmp_path, config=config, make_mistaken=Backward)
    dataset = Dataset(tmp_path)
    for e in dataset.episodes:
        wanted = ToyPolicy(ToyEnv())
        wanted.reset([e.seed])
        rows = slice(e.start, e.start + e.length)
        label = np.concatenate(
            [wanted.act({"proprio": p[None]}) for p in dataset.stream("proprio")[rows]]
        )
        sign = -1 if config.errs(e.index) else 1
        np.testing.assert_allclose(dataset.stream("label")[rows], sign * label, atol=1e-6)
