"""Windows are what the episodes were; broken datasets are refused, and the check says why."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ToyEnv, ToyPolicy, collect_toys

from worldmodel.check import check
from worldmodel.collect import CollectConfig
from worldmodel.dataset import STREAMS, Dataset
from worldmodel.demonstrate import executor, run_episodes
from worldmodel.episode import Episode
from worldmodel.errors import UserError
from worldmodel.windows import Windows

FRAMES = "data/chunk-000/file-000.parquet"
VIDEO = "videos/observation.images.front/chunk-000/file-001.mp4"


@pytest.fixture
def copy(toys: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toys, tmp_path / "copy", ignore=shutil.ignore_patterns("cache")))


def truth(dataset: Dataset) -> list[Episode]:
    """The episodes acted out again."""
    env = ToyEnv()
    config = CollectConfig(episodes=8, seed=100)
    return [
        run_episodes(
            [env], ToyPolicy(env), dataset.spec, [e.seed],
            [executor(dataset.spec, e.seed, config, phases=False)],
        )[0]
        for e in dataset.episodes
    ]  # fmt: skip


def test_every_window_is_a_piece_of_one_episode(toys: Path) -> None:
    dataset, T, H = Dataset(toys), 4, 6
    episodes = truth(dataset)
    windows = dataset.windows(T, H, range(len(dataset)))
    places = [(e, n) for e in episodes for n in range(len(e) - T + 2)]
    assert len(windows) == len(places)
    batch = windows.get(np.arange(len(windows)))
    assert batch.images.shape[1:] == (T + 1, 2, 18, 22, 3)
    for i, (e, n) in enumerate(places):
        steps = np.minimum(np.arange(n, n + T + 1), len(e))  # after o_T it stands again
        assert np.array_equal(batch.proprio[i], e.proprio[steps])
        assert np.array_equal(batch.first[i], windows.get(np.array([i - n])).images[0, 0])
        exists = steps[:-1] < len(e)
        assert np.array_equal(batch.exists[i], exists)
        assert np.array_equal(batch.action[i][exists], e.action[steps[:-1][exists]])
        front = e.images["front"][steps].astype(int)
        assert np.abs(batch.images[i, :, 0] - front).mean() < 2
        for t in range(T):
            there = min(H, len(e) - n - t)
            assert batch.plan_mask[i, t].tolist() == [True] * there + [False] * (H - there)
            assert np.array_equal(batch.plan[i, t, :there], e.label[n + t : n + t + there])
            assert (batch.plan[i, t, there:] == e.label[-1]).all()


def test_samples_are_uniform_and_repeat_from_the_generator(toys: Path) -> None:
    windows = Dataset(toys).windows(4, 6, range(8))
    first, again = (windows.sample(16, np.random.default_rng(5), 0.5) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    counts = np.zeros(len(windows))
    starts = {windows.get(np.array([i])).proprio.tobytes(): i for i in range(len(windows))}
    rng = np.random.default_rng(0)
    for row in windows.sample(4000, rng, 0.5).proprio:
        counts[starts[row.tobytes()]] += 1
    expected = 4000 / len(windows)
    assert ((counts - expected) ** 2 / expected).sum() < 2 * len(windows)


def test_split_and_windows_that_are_too_long(toys: Path) -> None:
    dataset = Dataset(toys)
    train, held_out = dataset.split(3)
    assert sorted([*train, *held_out]) == list(range(8))
    assert len(held_out) == 3
    for holdout in (0, 8):
        with pytest.raises(UserError, match=f"got {holdout} of 8"):
            dataset.split(holdout)
    with pytest.raises(UserError, match="no episode has 99 steps"):
        dataset.windows(99, 4, train)


def test_the_cache_is_made_once_and_anew_when_the_data_change(copy: Path) -> None:
    Dataset(copy)
    images = copy / "cache/images.npy"
    before = images.stat().st_mtime_ns, images.stat().st_ino
    Dataset(copy)
    assert (images.stat().st_mtime_ns, images.stat().st_ino) == before
    os.utime(copy / VIDEO, ns=(1, 1))
    Dataset(copy)
    assert images.stat().st_ino != before[1] or images.stat().st_mtime_ns != before[0]
    assert isinstance(Dataset(copy).stream("images"), np.memmap)


@pytest.mark.parametrize("name", [FRAMES, VIDEO, "meta/info.json", "meta/worldmodel.json",
                                  "meta/episodes/chunk-000/file-000.parquet"])  # fmt: skip
def test_a_missing_or_cut_file_is_named_by_dataset_and_check(copy: Path, name: str) -> None:
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=Path(name).name):
        Dataset(copy)
    assert name in {p.file for p in check(copy).problems if p.serious}
    (copy / name).unlink()
    if name != "meta/info.json":  # without it the collection counts as unfinished
        with pytest.raises(UserError):
            Dataset(copy)
    assert not check(copy).ok


def test_a_good_dataset_passes_and_is_summed_up(toys: Path) -> None:
    report = check(toys)
    assert report.ok, report.text()
    assert report.summary["episodes"] == 8
    assert report.summary["success"] == 1.0
    assert "0 errors" in report.text()
    with pytest.raises(UserError, match="there is no dataset folder"):
        check(toys / "nowhere")


def edited(copy: Path, column: str, row: int, value: object) -> list[str]:
    """What the check says once one value of the frames is another."""
    table = pq.read_table(copy / FRAMES)
    values = table[column].to_pylist()
    values[row] = value
    i = table.column_names.index(column)
    changed = pa.array(values, table.schema.field(column).type)
    pq.write_table(table.set_column(i, column, changed), copy / FRAMES)
    return [p.what for p in check(copy).problems if p.serious]


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        (
            "observation.state",
            [0.0, float("nan"), 0.0],
            "not finite, the first in episode 0, step 2",
        ),
        ("action", [3.0, 0.0, 0.0], "leaves [-1, 1] in 1 frames, as by 3 in episode 0, step 2"),
        ("timestamp", 9.5, "leave the 10 Hz grid at frame 2: 9.5000 s, expected 0.2000 s"),
        ("observation.state", [1.9, 0.0, 0.0], "of 'observation.state' is"),
    ],
)
def test_wrong_numbers_are_named_by_episode_and_step(
    copy: Path, column: str, value: object, words: str
) -> None:
    assert any(words in what for what in edited(copy, column, 2, value))


def test_black_frames_and_counts_that_disagree(copy: Path) -> None:
    from worldmodel import lerobot

    frames = list(lerobot.read_video(copy / VIDEO))
    lerobot.write_video(copy / VIDEO, iter([np.zeros_like(f) for f in frames]), 10.0)
    assert any("are black" in p.what for p in check(copy).problems)
    lerobot.write_video(copy / VIDEO, iter(frames[:-2]), 10.0)
    found = [p for p in check(copy).problems if p.file == VIDEO]
    assert f"{len(frames) - 2} frames" in found[0].what
    info = json.loads((copy / "meta/info.json").read_text())
    (copy / "meta/info.json").write_text(json.dumps({**info, "total_episodes": 9, "fps": 20}))
    words = " ".join(p.what for p in check(copy).problems)
    assert "total_episodes is 9, the episodes give 8" in words
    assert "20 frames/s, the env ran at 10.0 Hz" in words


def test_flipped_bytes_are_findings_and_never_a_crash(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worldmodel.check.video_files", lambda data: [])  # decoding is slow
    rng = np.random.default_rng(0)
    for name in (FRAMES, "meta/info.json", "meta/worldmodel.json", "meta/stats.json",
                 "meta/tasks.parquet", "meta/episodes/chunk-000/file-000.parquet"):  # fmt: skip
        whole = (copy / name).read_bytes()
        for _ in range(12):
            broken = bytearray(whole)
            for at in rng.integers(0, len(whole), 3):
                broken[at] ^= 1 << rng.integers(8)
            (copy / name).write_bytes(bytes(broken))
            check(copy)
        (copy / name).write_bytes(whole)


def test_the_share_of_demonstrations_is_kept_and_every_window_can_come(tmp_path: Path) -> None:
    collect_toys(tmp_path, config=CollectConfig(episodes=8, seed=100, workers=1, explore=0.25))
    dataset = Dataset(tmp_path)
    windows = dataset.windows(2, 3, range(8))
    rng = np.random.default_rng(0)
    for share in (0.0, 0.3, 1.0):
        batch = windows.sample(3000, rng, share)
        assert batch.plan_mask[:, 0, 0].mean() == pytest.approx(share, abs=0.03)
    seen = np.unique(windows.sample(6000, rng, 0.5).proprio.reshape(6000, -1), axis=0)
    everything = np.unique(windows.get(np.arange(len(windows))).proprio.reshape(len(windows), -1),
                           axis=0)  # fmt: skip
    assert len(seen) == len(everything)


def test_the_first_picture_of_a_sample_is_of_its_episode_and_not_later(toys: Path) -> None:
    dataset = Dataset(toys)
    arrays = {name: dataset.stream(name) for name in STREAMS}
    arrays["images"] = np.arange(len(arrays["images"]))  # a picture is its own number
    windows = Windows(arrays, [dataset.episodes[2]], 3, 4)
    batch = windows.sample(400, np.random.default_rng(0), 0.5)
    start, latest = dataset.episodes[2].start, batch.images[:, 0]
    assert (start <= batch.first).all()
    assert (batch.first <= latest).all()
    assert (batch.first == latest).any()
    whole = batch.first[latest == latest.max()]
    assert set(whole) == set(range(start, latest.max() + 1))


def test_single_frames_are_observations_of_the_chosen_episodes(toys: Path) -> None:
    dataset = Dataset(toys)
    chosen = dataset.episodes[2:5]
    windows = dataset.windows(3, 4, [e.index for e in chosen])
    images, proprio = windows.frames(300, np.random.default_rng(0))
    every = dataset.stream("proprio")
    row = [int(np.flatnonzero((every == p).all(axis=1))[0]) for p in proprio]
    assert np.array_equal(dataset.stream("images")[row], images)
    last = chosen[-1].start + chosen[-1].length
    assert set(row) <= set(range(chosen[0].start, last + 1))
    assert len(set(row)) > 0.8 * sum(e.length for e in chosen)


def test_motions_are_proprioception_and_actions_of_one_episode(toys: Path) -> None:
    dataset = Dataset(toys)
    chosen = dataset.episodes[2:5]
    windows = dataset.windows(3, 4, [e.index for e in chosen])
    longest = max(e.length for e in chosen)
    for steps in (4, longest + 5):
        proprio, action = windows.motions(200, steps, np.random.default_rng(0))
        length = min(steps, longest)
        assert proprio.shape[1] == length + 1
        assert action.shape[1] == length
        every, acts = dataset.stream("proprio"), dataset.stream("action")
        for p, a in zip(proprio, action, strict=True):
            row = int(np.flatnonzero((every == p[0]).all(axis=1))[0])
            assert np.array_equal(every[row : row + length + 1], p)
            assert np.array_equal(acts[row : row + length], a)
            (e,) = (e for e in chosen if e.start <= row <= e.start + e.length)
            assert row + length <= e.start + e.length


def test_stretches_are_as_long_as_asked_or_whole_episodes(tmp_path: Path) -> None:
    collect_toys(tmp_path, config=CollectConfig(episodes=8, seed=100, workers=1, explore=0.25))
    dataset, T = Dataset(tmp_path), 3
    windows, rng = dataset.windows(T, 4, range(8)), np.random.default_rng(0)
    longest = max(e.length for e in dataset.episodes)
    for steps in (5, longest + 4):
        number, count = windows.stretches(200, steps, rng, demonstrations=0.7)
        batch = windows.get(number, length=steps)
        assert batch.images.shape[:2] == (200, steps + 1)
        # as many windows as fit in the steps that exist, o_T counted
        assert np.array_equal(count, batch.exists.sum(1) - T + 2)
        assert batch.plan_mask[:, 0, 0].mean() == pytest.approx(0.7, abs=0.1)
        last = windows.get(number + count - 1)  # still in the same episode, and in the stretch
        row = np.arange(200)
        for t in range(T):
            there = np.minimum(count - 1 + t, steps)
            assert np.array_equal(last.proprio[:, t], batch.proprio[row, there])


def test_the_end_of_an_episode_and_its_success_are_seen(toys: Path) -> None:
    """o_T has no action, but it is where success is read off."""
    dataset = Dataset(toys)
    for e in dataset.episodes:
        windows = dataset.windows(3, 4, [e.index])
        batch = windows.get(np.arange(len(windows)))
        ends = ~batch.exists
        assert ends.sum() == 1
        assert ends[-1, -1]
        assert batch.outcome[-1, -1, 0] == e.success
        assert not batch.outcome[..., 0][batch.exists].any()
        assert not batch.plan_mask[ends].any()
