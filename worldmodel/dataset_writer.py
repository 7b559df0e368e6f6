"""Episodes onto disk as a LeRobotDataset v3: shard by shard, then data/ and meta/ from them.

A shard's table is renamed into place last, so a shard is either there or not.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from worldmodel import lerobot
from worldmodel.episode import Episode
from worldmodel.files import write_json
from worldmodel.spec import DataSpec, FeatureStats

SHARDS = "shards"


def shard_file(out: Path, number: int) -> Path:
    """What is there once the shard of this number is."""
    return out / SHARDS / f"{number:05d}.parquet"


def write_shard(
    out: Path, spec: DataSpec, number: int, first: int, episodes: Sequence[Episode],
    demonstrations: Sequence[bool], attempts: int,
) -> None:  # fmt: skip
    """Write ``episodes``, of which the first has the number ``first``; ``demonstrations`` says of
    which plans may be learned, ``attempts`` how many were tried for them."""
    for camera in spec.cameras:
        frames = (frame for e in episodes for frame in e.images[camera])
        lerobot.write_video(
            out / lerobot.video_path(camera, number), frames, spec.control_frequency
        )
    fps, start, rows, tables = spec.control_frequency, 0, [], []
    for i, (episode, shown) in enumerate(zip(episodes, demonstrations, strict=True), start=first):
        row = lerobot.episode_row(episode, i, number, start, fps)
        rows.append({**row, "demonstration": shown, "attempts": attempts})
        tables.append(lerobot.frame_table(episode, i, fps, spec.tasks.index(episode.task)))
        start += len(episode) + 1
    meta = shard_file(out, number)
    lerobot.write_table(meta.with_suffix(".frames"), pa.concat_tables(tables))
    lerobot.write_table(meta, pa.Table.from_pylist(rows))


def teaches_actions(rows: Sequence[dict[str, Any]]) -> list[bool]:
    """Of whose actions statistics are taken: the demonstrations', or all that are known, or all."""
    known = [bool(r.get("actions_known", True)) for r in rows]
    shown = [bool(r["demonstration"]) and k for r, k in zip(rows, known, strict=True)]
    return next((kind for kind in (shown, known) if any(kind)), [True] * len(rows))


def finish(
    out: Path, spec: DataSpec, shards: Sequence[int], about: dict[str, Any], more: bool = False
) -> dict[str, Any]:
    """Write data/ and meta/ from these shards, info.json, which makes a dataset, last; a summary.

    With ``more`` the shards stay, so that others can follow and this be called again.
    """
    rows = [r for k in shards for r in lerobot.read_table(shard_file(out, k)).to_pylist()]
    attempts = sum(lerobot.read_table(shard_file(out, k))["attempts"][0].as_py() for k in shards)
    tables = [lerobot.read_table(shard_file(out, k).with_suffix(".frames")) for k in shards]
    for row in rows:
        del row["attempts"]
    summary = write_tables(out, spec, rows, pa.concat_tables(tables), attempts, len(shards), about)
    if not more:
        shutil.rmtree(out / SHARDS)
    return summary


def write_tables(
    out: Path, spec: DataSpec, rows: list[dict[str, Any]], frames: pa.Table, attempts: int,
    videos: int, about: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Write data/ and meta/ of these episodes, whose ``videos`` files per camera are there, and
    info.json last; a summary."""
    frames = frames.append_column("index", pa.array(np.arange(len(frames))))
    start = 0
    for row in rows:
        row |= {"data/chunk_index": 0, "data/file_index": 0, "dataset_from_index": start,
                "dataset_to_index": start + row["length"], "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0}  # fmt: skip
        start += row["length"]
    acting = frames["next.exists"].to_numpy()

    def column(name: str) -> np.ndarray:
        values = frames[name].combine_chunks()
        return values.flatten().to_numpy().reshape(len(frames), -1)

    proprio, label = column("observation.state"), column("action")[acting]
    learned = np.repeat(teaches_actions(rows), [r["length"] for r in rows])[acting]
    spec = replace(
        spec, proprio_stats=FeatureStats.of(proprio),
        change_stats=FeatureStats.of((proprio[1:] - proprio[:-1])[acting[:-1]]),
        action_stats=FeatureStats.of(label[learned]),
    )  # fmt: skip
    keys = [lerobot.video_key(c) for c in spec.cameras]
    stats = {key: lerobot.pooled(rows, key) for key in keys}
    stats |= {"observation.state": lerobot.vector_stats(proprio),
              "action": lerobot.vector_stats(label)}  # fmt: skip
    lengths = [row["length"] - 1 for row in rows]
    summary = {
        "episodes": len(rows), "demonstrations": sum(r["demonstration"] for r in rows),
        "steps": sum(lengths), "attempts": attempts,
        "success_rate": sum(r["success"] for r in rows) / attempts,  # explorations included
        "mean_steps": float(np.mean(lengths)), "longest": max(lengths),
    }  # fmt: skip
    lerobot.write_table(out / lerobot.DATA.format(chunk_index=0, file_index=0), frames)
    lerobot.write_table(out / lerobot.EPISODES, pa.Table.from_pylist(rows))
    lerobot.write_table(out / lerobot.TASKS, lerobot.tasks_table(spec.tasks))
    write_json(out / lerobot.STATS, stats)
    write_json(out / lerobot.SPEC, {"spec": spec.to_json(), "summary": summary, "collect": about})
    write_json(out / lerobot.INFO, lerobot.info(spec, rows, videos * len(keys)))
    return summary
