"""Small recordings in the formats of others, as those write them, and how they are read back."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import h5py
import numpy as np
import pyarrow.parquet as pq

from worldmodel.check import check
from worldmodel.dataset import Dataset

TWO = {"front": (32, 48), "wrist": (32, 48)}


class Recording(NamedTuple):
    """N observations and N actions, and what came last."""

    pictures: dict[str, np.ndarray]  # camera -> uint8 (N + 1, h, w, 3)
    state: np.ndarray  # (N + 1, 4)
    action: np.ndarray  # (N, 3)


def recording(seed: int, N: int, sizes: dict[str, tuple[int, int]], reach: float = 0.9):
    """A block wanders over a background that is another at top, bottom and each side."""
    rng = np.random.default_rng(seed)
    pictures = {}
    for camera, (h, w) in sizes.items():
        y, x = np.mgrid[:h, :w]
        ground = np.stack([60 + 90 * y / h, 60 + 90 * x / w, 120 + 0 * x], axis=-1)
        frames = np.repeat(ground[None].astype(np.uint8), N + 1, axis=0)
        for i in range(N + 1):
            row, column = (seed + i) % (h // 2), (2 * i) % (w // 2)
            frames[i, row : row + h // 4, column : column + w // 4] = (220, 40, 30)
        pictures[camera] = frames
    state = np.cumsum(rng.normal(scale=0.1, size=(N + 1, 4)), axis=0)
    action = rng.uniform(-1, 1, (N, 3)) * reach
    action[0] = reach * np.sign(action[0])  # the largest is there
    return Recording(pictures, state, action)


def encoded(picture: np.ndarray, kind: str = "mjpeg") -> bytes:
    """A JPEG or PNG file's bytes, written by FFmpeg."""
    codec = av.CodecContext.create(kind, "w")
    codec.height, codec.width = picture.shape[:2]
    codec.pix_fmt = "yuvj444p" if kind == "mjpeg" else "rgb24"
    codec.time_base = Fraction(1, 10)
    codec.options = {"qmin": "1", "qmax": "1"} if kind == "mjpeg" else {}
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
        format=codec.pix_fmt, dst_color_range="JPEG" if kind == "mjpeg" else None
    )
    frame.pts = 0
    return b"".join(bytes(p) for p in [*codec.encode(frame), *codec.encode(None)])


def write_robomimic(
    path: Path, episodes: Sequence[Recording], follows: bool = True, frequency: float | None = 20,
    rewards: Sequence[float] = (), says: str = "",
) -> Path:  # fmt: skip
    """One HDF5 file; the last state is that of objects. ``follows``: with next_obs."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        about = {"env_name": "PickPlaceCan", "type": 1, "env_kwargs": {"control_freq": frequency}}
        data.attrs["env_args"] = json.dumps(about if frequency else {})
        if says:  # as LIBERO has it
            data.attrs["problem_info"] = json.dumps({"language_instruction": f'"{says}"'})
        data.attrs["total"] = sum(len(e.action) for e in episodes)
        for k, e in enumerate(episodes):
            demo = data.create_group(f"demo_{k}")
            N = len(e.action)
            demo.attrs["num_samples"] = N
            demo["actions"] = e.action
            demo["rewards"] = np.array(rewards or (np.arange(N) == N - 1), np.float64)
            demo["dones"] = (np.arange(N) == N - 1).astype(np.int64)
            demo["states"] = np.zeros((N, 7))
            for group, first in (("obs", 0), ("next_obs", 1)):
                if group == "next_obs" and not follows:
                    continue
                here = slice(first, first + N)
                for camera, frames in e.pictures.items():
                    demo[f"{group}/{camera}_image"] = frames[here]
                demo[f"{group}/robot0_eef_pos"] = e.state[here, :3]
                demo[f"{group}/robot0_joint_pos"] = e.state[here, :2]
                demo[f"{group}/object"] = e.state[here, 3:]
        file["mask/train"] = np.array([b"demo_0", b"demo_2"][: len(episodes)])
    return path


def write_aloha(folder: Path, episodes: Sequence[Recording], compress: bool = False) -> Path:
    """A file per episode, without what came last."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, e in enumerate(episodes):
        N = len(e.action)
        with h5py.File(folder / f"episode_{k}.hdf5", "w") as file:
            file.attrs["sim"], file.attrs["compress"] = False, compress
            for camera, frames in e.pictures.items():
                if compress:
                    files = [encoded(frame) for frame in frames[:N]]
                    rows = np.zeros((N, max(map(len, files)) + 5), np.uint8)
                    for row, content in zip(rows, files, strict=True):
                        row[: len(content)] = np.frombuffer(content, np.uint8)
                    file[f"observations/images/{camera}"] = rows
                else:
                    file[f"observations/images/{camera}"] = frames[:N]
            file["observations/qpos"] = e.state[:N]
            file["observations/qvel"] = np.zeros((N, 4))
            file["action"] = e.action
    return folder


def write_frames(
    folder: Path, e: Recording, actions: bool = True, state: bool = True,
    frequency: float | None = 10.0, kind: str = "png", last: bool = True,
) -> Path:  # fmt: skip
    """One episode's folder: a folder of pictures per camera, and a CSV."""
    for camera, frames in e.pictures.items():
        (folder / camera).mkdir(parents=True)
        for i, frame in enumerate(frames):
            suffix = "jpg" if kind == "mjpeg" else kind
            (folder / camera / f"frame_{i}.{suffix}").write_bytes(encoded(frame, kind))
    names = ["frame", *(["timestamp"] if frequency else [])]
    names += ["x [m]", "y [m]"] if state else []
    names += ["action_dx [m]", "action_dy [m]", "action_grip", "success"] if actions else []
    if names == ["frame"]:
        return folder
    with (folder / "numbers.csv").open("w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(names)
        for i in range(len(e.state)):
            row = [i, *([i / frequency] if frequency else [])]
            row += list(e.state[i, :2]) if state else []
            if actions:
                done = i == len(e.action) - 1
                row += [*e.action[i], int(done)] if i < len(e.action) else ["", "", "", ""]
            out.writerow(row)
    return folder


def read_independently(root: Path) -> list[dict]:
    """Every episode by the layout that v3 documents, with pyarrow and PyAV alone."""
    info = json.loads((root / "meta/info.json").read_text())
    rows = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    episodes = []
    for row in rows:
        place = {k: row[f"data/{k}"] for k in ("chunk_index", "file_index")}
        table = pq.read_table(root / info["data_path"].format(**place)).to_pylist()
        frames = [f for f in table if f["episode_index"] == row["episode_index"]]
        assert [f["index"] for f in frames] == list(
            range(row["dataset_from_index"], row["dataset_to_index"])
        )
        found = {"row": row, "frames": frames, "pictures": {}}
        for key, feature in info["features"].items():
            if feature["dtype"] != "video":
                continue
            place = {k: row[f"videos/{key}/{k}"] for k in ("chunk_index", "file_index")}
            first, last = (row[f"videos/{key}/{k}_timestamp"] for k in ("from", "to"))
            with av.open(str(root / info["video_path"].format(video_key=key, **place))) as film:
                found["pictures"][key] = np.stack([
                    f.to_ndarray(format="rgb24") for f in film.decode(video=0)
                    if first - 1e-3 <= f.time < last - 1e-3
                ])  # fmt: skip
        episodes.append(found)
    return episodes


def compare(root: Path, truth: list[Recording], names: list[str], lost: int, scale=1.0) -> None:
    """What stands in ``root`` against what was recorded; ``lost`` actions were left out."""
    dataset, stored = Dataset(root), read_independently(root)
    assert len(dataset) == len(stored) == len(truth)
    for e, found, true in zip(dataset.episodes, stored, truth, strict=True):
        T = len(true.action) - lost
        assert e.length == T
        assert found["row"]["length"] == T + 1
        action = np.array([f["action"] for f in found["frames"]])[:-1]
        assert np.allclose(action, true.action[:T] / scale, atol=1e-6)
        assert np.array_equal(action.astype(np.float32), dataset.stream("action")[e.start :][:T])
        state = np.array([f["observation.state"] for f in found["frames"]], np.float32)
        assert np.array_equal(state, dataset.stream("proprio")[e.start :][: T + 1])
        assert np.allclose(state, true.state[: T + 1, : state.shape[1]], atol=1e-6)
        for c, (name, camera) in enumerate(zip(names, true.pictures, strict=True)):
            pictures = found["pictures"][f"observation.images.{name}"]
            expected = true.pictures[camera][: T + 1]
            assert pictures.shape == expected.shape
            assert np.abs(pictures.astype(int) - expected).mean() < 1.5
            ours = dataset.stream("images")[e.start : e.start + T + 1, c]
            assert np.array_equal(pictures, ours)
    report = check(root)
    assert report.ok, report.text()


# -- round trips -----------------------------------------------------------------------------------
