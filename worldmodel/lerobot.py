"""LeRobotDataset v3 on disk: parquet tables and mp4 files, written and read without `lerobot`.

    meta/info.json                                 features, fps, counts, path templates
    meta/stats.json, meta/tasks.parquet            statistics per feature, task names
    meta/episodes/chunk-000/file-000.parquet       a row per episode: where its frames and video lie
    meta/worldmodel.json                           our DataSpec and how the data came about
    data/chunk-000/file-000.parquet                a row per frame
    videos/observation.images.<camera>/chunk-000/file-000.mp4

An episode of T actions has T + 1 observations, and v3 a row per frame: so T + 1 rows, of which the
last (`next.exists` false) holds o_T and repeats the last action. `action` is the demonstrated
action, which imitation learners want; `action.executed` is what the robot did. Where an episode's
`actions_known` is false, it is a video: zeros stand in place of its actions. The layout follows
huggingface/lerobot (Apache-2.0), release 0.4; sources: its docs and dataset metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from worldmodel.episode import Episode
from worldmodel.errors import RunError, UserError
from worldmodel.files import atomic
from worldmodel.spec import DataSpec

VERSION = "v3.0"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = Path("meta/episodes/chunk-000/file-000.parquet")
INFO, STATS, TASKS = Path("meta/info.json"), Path("meta/stats.json"), Path("meta/tasks.parquet")
SPEC = Path("meta/worldmodel.json")
FILES_PER_CHUNK = 1000

#: column of a frame's row -> field of Episode, for what belongs to an action
STEPS = {
    "action": "label", "action.executed": "action", "next.reward": "reward",
    "next.terminated": "terminated", "next.truncated": "truncated", "next.success": "success",
}  # fmt: skip


def video_key(camera: str) -> str:
    return f"observation.images.{camera}"


def video_path(camera: str, file: int) -> str:
    chunk, index = divmod(file, FILES_PER_CHUNK)
    return VIDEO.format(video_key=video_key(camera), chunk_index=chunk, file_index=index)


def begun_by(root: Path) -> str:
    """The command that began the dataset in ``root`` and has not finished it, or ''."""
    if (root / INFO).exists():
        return ""
    commands = {"collect.json": "collect", "convert.json": "data convert"}
    return next((command for file, command in commands.items() if (root / file).exists()), "")


# -- video ----------------------------------------------------------------------------------------


def write_video(path: Path, frames: Iterator[np.ndarray], fps: float) -> None:
    """Encode frames uint8 (h, w, 3) at constant ``fps``, atomically.

    H.264 at full chroma resolution (a can is six pixels wide) and high quality; a key frame every
    ten, so that a reader may start nearly anywhere.
    """
    import av

    if "libx264" not in av.codecs_available:
        raise RunError("this PyAV has no libx264 encoder; install PyAV's wheel: pip install av")
    try:
        with atomic(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
            stream.options = {"crf": "4", "preset": "veryfast", "g": "10"}
            stream.pix_fmt = "yuv444p"
            stream.codec_context.thread_count = 1  # the same bytes every time; workers fill cores
            for i, frame in enumerate(frames):
                if i == 0:
                    stream.height, stream.width = frame.shape[:2]
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
                picture.pts = i
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
    except (OSError, av.FFmpegError) as error:
        raise _cannot_write(path, error) from error


def read_video(path: Path) -> Iterator[np.ndarray]:
    """The frames of an mp4, uint8 (h, w, 3); UserError when it is missing, truncated or corrupt."""
    import av

    if not path.exists():
        raise UserError(f"{path} is missing; collect the dataset again, or copy that file")
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                # threads of its own for each small picture would take 15 times as long
                yield frame.to_ndarray(format="rgb24", threads=1)
    except (av.FFmpegError, IndexError, ValueError, EOFError) as error:
        raise UserError(
            f"{path} is truncated or corrupt ({error}); collect or copy it again"
        ) from error


# -- tables ---------------------------------------------------------------------------------------


def frame_table(episode: Episode, index: int, fps: float, task: int = 0) -> pa.Table:
    """The T + 1 rows of one episode, whose task has this number; `index`, the frame's number in the
    dataset, comes later."""
    T = len(episode)
    columns: dict[str, Any] = {"observation.state": _lists(episode.proprio)}
    for column, name in STEPS.items():
        values = getattr(episode, name)
        values = np.concatenate([values, values[-1:]])  # the last frame has no action: a repeat
        columns[column] = _lists(values) if values.ndim > 1 else pa.array(values)
    frames = np.arange(T + 1)
    columns["next.exists"] = pa.array(frames < T)
    columns["timestamp"] = pa.array((frames / fps).astype(np.float32))
    columns["frame_index"] = pa.array(frames)
    columns["episode_index"] = pa.array(np.full(T + 1, index))
    columns["task_index"] = pa.array(np.full(T + 1, task, np.int64))
    return pa.table(columns)


def episode_row(episode: Episode, index: int, file: int, first_frame: int, fps: float) -> dict:
    """The row of ``meta/episodes``, but for where its frames lie in ``data`` (known at the end)."""
    row: dict[str, Any] = {
        "episode_index": index, "tasks": [episode.task], "length": len(episode) + 1,
        "seed": episode.seed, "outcome": episode.outcome, "success": episode.succeeded,
        "actions_known": episode.known,
    }  # fmt: skip
    chunk, number = divmod(file, FILES_PER_CHUNK)
    for camera, frames in episode.images.items():
        key = f"videos/{video_key(camera)}"
        row |= {
            f"{key}/chunk_index": chunk, f"{key}/file_index": number,
            f"{key}/from_timestamp": first_frame / fps,
            f"{key}/to_timestamp": (first_frame + len(episode) + 1) / fps,
        }  # fmt: skip
        row |= _flat(f"stats/{video_key(camera)}", image_stats(frames))
    row |= _flat("stats/observation.state", vector_stats(episode.proprio))
    return row | _flat("stats/action", vector_stats(episode.label))


def vector_stats(values: np.ndarray) -> dict[str, list]:
    """min, max, mean, std per dimension and count, as v3 keeps them."""
    x = values.astype(np.float64)
    rows = {"min": x.min(0), "max": x.max(0), "mean": x.mean(0), "std": x.std(0)}
    return {k: v.tolist() for k, v in rows.items()} | {"count": [len(x)]}


def image_stats(frames: np.ndarray) -> dict[str, list]:
    """Statistics per channel in 0..1, shaped [3][1][1], of uint8 (n, h, w, 3)."""
    # how often each of the 256 values comes tells all of it, and is counted many times faster
    counts = np.stack([np.bincount(frames[..., c].ravel(), minlength=256) for c in range(3)])
    value, n = np.arange(256) / 255, counts.sum(1)
    mean = (counts * value).sum(1) / n
    spread = (counts * (value - mean[:, None]) ** 2).sum(1) / n
    low, high = (counts > 0).argmax(1), 255 - (counts[:, ::-1] > 0).argmax(1)
    rows = {"min": low / 255, "max": high / 255, "mean": mean, "std": np.sqrt(spread)}
    return {k: v.reshape(3, 1, 1).tolist() for k, v in rows.items()} | {"count": [len(frames)]}


def pooled(rows: list[dict[str, Any]], feature: str) -> dict[str, list]:
    """The statistics of all episodes' frames of ``feature`` from those of each episode."""
    part = {k: np.array([r[f"stats/{feature}/{k}"] for r in rows]) for k in ("min", "max")}
    n = np.array([r[f"stats/{feature}/count"][0] for r in rows], np.float64)
    mean = np.array([r[f"stats/{feature}/mean"] for r in rows])
    std = np.array([r[f"stats/{feature}/std"] for r in rows])
    w = (n / n.sum()).reshape(-1, *[1] * (mean.ndim - 1))
    whole = (w * mean).sum(0)
    variance = (w * (std**2 + (mean - whole) ** 2)).sum(0)
    values = {"min": part["min"].min(0), "max": part["max"].max(0), "mean": whole,
              "std": np.sqrt(variance)}  # fmt: skip
    return {k: v.tolist() for k, v in values.items()} | {"count": [int(n.sum())]}


def info(spec: DataSpec, rows: list[dict[str, Any]], videos: int) -> dict[str, Any]:
    """meta/info.json."""
    h, w = spec.image_size
    fps = spec.control_frequency
    fps = int(fps) if fps == int(fps) else fps  # whole numbers as others write them
    picture = {"video.height": h, "video.width": w, "video.channels": 3, "video.codec": "h264",
               "video.pix_fmt": "yuv444p", "video.fps": fps, "video.is_depth_map": False,
               "has_audio": False}  # fmt: skip

    def feature(dtype: str, names: tuple[str, ...] = (), size: int = 1) -> dict[str, Any]:
        return {"dtype": dtype, "shape": [len(names) or size], "names": list(names) or None}

    features: dict[str, Any] = {
        video_key(c): {"dtype": "video", "shape": [h, w, 3],
                       "names": ["height", "width", "channels"], "info": picture}
        for c in spec.cameras
    }  # fmt: skip
    features |= {
        "observation.state": feature("float32", spec.proprio_names),
        "action": feature("float32", spec.action_names),
        "action.executed": feature("float32", spec.action_names),
        "next.reward": feature("float32"),
        **{f"next.{k}": feature("bool") for k in ("terminated", "truncated", "success", "exists")},
        "timestamp": feature("float32"),
        **{k: feature("int64") for k in ("frame_index", "episode_index", "index", "task_index")},
    }
    return {
        "codebase_version": VERSION, "robot_type": None, "fps": fps,
        "total_episodes": len(rows), "total_frames": sum(r["length"] for r in rows),
        "total_tasks": len(spec.tasks), "chunks_size": FILES_PER_CHUNK, "total_videos": videos,
        "data_files_size_in_mb": 100, "video_files_size_in_mb": 200,
        "splits": {"train": f"0:{len(rows)}"}, "data_path": DATA, "video_path": VIDEO,
        "features": features,
    }  # fmt: skip


def tasks_table(tasks: tuple[str, ...]) -> pa.Table:
    """meta/tasks.parquet as pandas would write it: the task's text is the index."""
    column = {"field_name": "task_index", "name": "task_index", "pandas_type": "int64",
              "numpy_type": "int64", "metadata": None}  # fmt: skip
    index = {"field_name": "__index_level_0__", "name": None, "pandas_type": "unicode",
             "numpy_type": "object", "metadata": None}  # fmt: skip
    pandas = {"index_columns": ["__index_level_0__"], "column_indexes": [],
              "columns": [column, index], "creator": {"library": "pyarrow"},
              "pandas_version": "2.2.0"}  # fmt: skip
    table = pa.table({"task_index": list(range(len(tasks))), "__index_level_0__": list(tasks)})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def write_table(path: Path, table: pa.Table) -> None:
    """Write a parquet file atomically; RunError when the disk is full."""
    try:
        with atomic(path) as temporary:
            pq.write_table(table, temporary)
    except OSError as error:
        raise _cannot_write(path, error) from error


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A parquet file, or some columns of it; UserError when it is missing, truncated or corrupt."""
    if not path.exists():
        raise UserError(f"{path} is missing; collect the dataset again, or copy that file")
    try:
        table = pq.read_table(path, columns=columns)
        table.validate(full=True)
        return table
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise UserError(
            f"{path} is truncated or corrupt ({error}); collect or copy it again"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; UserError when it is missing or broken."""
    if not path.exists():
        raise UserError(f"{path} is missing: {path.parent.parent} is not a finished dataset")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON ({error}); copy it again") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def _cannot_write(path: Path, error: Exception) -> RunError:
    return RunError(
        f"could not write {path}: {error}; what was finished is kept. Free some space and run the "
        "same command again"
    )


def _lists(values: np.ndarray) -> pa.Array:
    """(n, d) as a column of fixed-size lists."""
    flat = pa.array(np.ascontiguousarray(values, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _flat(prefix: str, stats: dict[str, list]) -> dict[str, Any]:
    return {f"{prefix}/{key}": value for key, value in stats.items()}
