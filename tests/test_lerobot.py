"""What is written as LeRobotDataset v3 comes back, in the layout that others read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny import tiny_spec

from worldmodel import lerobot
from worldmodel.errors import RunError, UserError


def pictures(n: int, h: int, w: int) -> np.ndarray:
    """A small red block wanders over a smooth background."""
    y, x = np.mgrid[:h, :w]
    background = np.stack([80 + x, 90 + y, 120 + (x + y) // 2], axis=-1).astype(np.uint8)
    frames = np.repeat(background[None], n, axis=0)
    for i in range(n):
        frames[i, 2 + i % 5 : 8 + i % 5, 3 + i % 7 : 9 + i % 7] = (220, 30, 40)
    return frames


@pytest.mark.parametrize("size", [(64, 64), (17, 23), (16, 33)])
def test_video_loses_little_and_no_frame(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = pictures(25, *size)
    file = tmp_path / "x.mp4"
    lerobot.write_video(file, iter(frames), 10.0)
    back = np.stack(list(lerobot.read_video(file)))
    assert back.shape == frames.shape
    error = np.abs(back.astype(int) - frames)
    assert error.mean() < 1.5
    # the block keeps its colour up to its edge: chroma is not subsampled
    assert error[:, 2:14, 3:16].mean() < 4
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == 10.0
        assert stream.codec_context.pix_fmt == "yuv444p"
        times = [float(f.pts * stream.time_base) for f in container.decode(video=0)]
    assert times == pytest.approx(np.arange(25) / 10)


def test_a_frequency_that_is_no_whole_number_stays_so(tmp_path: Path) -> None:
    file = tmp_path / "x.mp4"
    lerobot.write_video(file, iter(pictures(5, 16, 16)), 12.5)
    with av.open(str(file)) as container:
        assert float(container.streams.video[0].average_rate) == 12.5
    spec = dataclasses.replace(tiny_spec(), control_frequency=12.5)
    assert lerobot.info(spec, [{"length": 5}], 1)["fps"] == 12.5
    assert isinstance(lerobot.info(tiny_spec(), [{"length": 5}], 1)["fps"], int)


def test_a_missing_encoder_and_a_full_disk_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = pictures(3, 16, 16)

    def full(table, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lerobot.pq, "write_table", full)
    with pytest.raises(RunError, match=r"No space left.*Free some space"):
        lerobot.write_table(tmp_path / "x.parquet", lerobot.tasks_table(("a",)))
    monkeypatch.setattr(av, "codecs_available", set())
    with pytest.raises(RunError, match="no libx264"):
        lerobot.write_video(tmp_path / "x.mp4", iter(frames), 10.0)
    assert list(tmp_path.iterdir()) == []


def test_layout_is_that_of_version_3(toys: Path) -> None:
    info = json.loads((toys / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert info["fps"] == 10
    assert info["splits"] == {"train": "0:8"}
    assert info["features"]["observation.images.wrist"]["shape"] == [18, 22, 3]
    frames = pq.read_table(toys / "data/chunk-000/file-000.parquet")
    assert len(frames) == info["total_frames"]
    assert set(frames.column_names) | {"observation.images.front", "observation.images.wrist"} == (
        set(info["features"])
    )
    assert frames["index"].to_pylist() == list(range(len(frames)))
    rows = pq.read_table(toys / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [r["episode_index"] for r in rows] == list(range(8))
    assert [r["dataset_to_index"] for r in rows[:-1]] == [r["dataset_from_index"] for r in rows[1:]]
    ends = [r["dataset_to_index"] - 1 for r in rows]
    assert np.flatnonzero(~frames["next.exists"].to_numpy()).tolist() == ends
    for key in ("observation.images.front", "observation.images.wrist"):
        for row in rows:
            place = {k: row[f"videos/{key}/{k}"] for k in ("chunk_index", "file_index")}
            assert (toys / info["video_path"].format(video_key=key, **place)).exists()
            span = row[f"videos/{key}/to_timestamp"] - row[f"videos/{key}/from_timestamp"]
            assert span == pytest.approx(row["length"] / 10)
    table = pq.read_table(toys / "meta/tasks.parquet")
    pandas = json.loads(table.schema.metadata[b"pandas"])
    assert pandas["index_columns"] == ["__index_level_0__"]
    assert table["__index_level_0__"].to_pylist() == ["push"]


def test_pooled_statistics_are_those_of_all_frames() -> None:
    parts = [pictures(n, 8, 8) for n in (3, 7)]
    rows = [{f"stats/front/{k}": v for k, v in lerobot.image_stats(p).items()} for p in parts]
    pooled = lerobot.pooled(rows, "front")
    whole = lerobot.image_stats(np.concatenate(parts))
    for key, value in whole.items():
        assert np.allclose(pooled[key], value), key


def test_statistics_of_pictures_are_those_of_their_values() -> None:
    frames = pictures(5, 9, 7)
    x = frames.reshape(-1, 3) / 255
    stats = lerobot.image_stats(frames)
    for key, true in (("min", x.min(0)), ("max", x.max(0)), ("mean", x.mean(0)), ("std", x.std(0))):
        assert np.allclose(np.ravel(stats[key]), true, atol=1e-12), key
    assert stats["count"] == [5]


def test_broken_files_are_named(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    file.write_bytes(b"PAR1 nothing")
    with pytest.raises(UserError, match=r"x\.parquet is truncated or corrupt"):
        lerobot.read_table(file)
    (tmp_path / "x.mp4").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"x\.mp4 is truncated or corrupt"):
        list(lerobot.read_video(tmp_path / "x.mp4"))
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(UserError, match="expected a JSON object, got list"):
        lerobot.read_json(tmp_path / "x.json")
