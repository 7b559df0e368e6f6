"""Recordings from elsewhere into a LeRobotDataset v3 as `worldmodel collect` writes it.

All numbers are read and looked at before the first picture; then shards are written one after
another, and what makes a dataset of them last. Run again after a stop, it goes on.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel import lerobot
from worldmodel.convert_plan import ConvertConfig, remarks, spec_of, task_of
from worldmodel.dataset_writer import finish, shard_file, write_shard
from worldmodel.episode import Episode
from worldmodel.errors import UserError
from worldmodel.from_aloha import is_aloha, read_aloha
from worldmodel.from_frames import read_frames
from worldmodel.from_lerobot import is_lerobot, read_lerobot
from worldmodel.from_robomimic import is_robomimic, read_robomimic
from worldmodel.hdf5 import SUFFIXES, files_in, opened
from worldmodel.pictures import resize
from worldmodel.runs import claim
from worldmodel.spec import DataSpec
from worldmodel.takes import Source, Take, Wanted, same_in_all

SHARD_EPISODES, SHARD_BYTES = 10, 2**28  # at most, of pictures in memory
CLAIM = "convert.json"


def read_source(config: ConvertConfig) -> Source:
    """All takes of ``config.source``; UserError when it is none of the formats, or incomplete."""
    path, wanted = config.source, Wanted(config.cameras, config.proprio, config.filter)
    if not path.exists():
        raise UserError(f"source: there is no file or folder '{path}'")
    kind = config.format if config.format != "auto" else detect(path)
    if kind in ("frames", "lerobot"):
        if path.is_file():
            raise UserError(f"{path}: format={kind} wants a folder")
        source = (read_frames if kind == "frames" else read_lerobot)(path, wanted)
    else:
        files = files_in(path)
        if not files:
            raise UserError(f"{path}: found no file that ends in {' or '.join(SUFFIXES)}")
        read = read_robomimic if kind == "robomimic" else read_aloha
        source = read(files, wanted)
    if not source.takes:
        raise UserError(f"{path}: found no episode")
    if config.filter and kind != "robomimic":
        raise UserError(f"filter={config.filter} is for robomimic's files; this is format={kind}")
    same_in_all(source.takes)
    return source


def detect(path: Path) -> str:
    """robomimic, aloha, lerobot or frames; UserError when it is none."""
    if is_lerobot(path):
        return "lerobot"
    files = files_in(path)
    if not files:
        return "frames"
    with opened(files[0]) as file:
        if is_robomimic(file):
            return "robomimic"
        if is_aloha(file):
            return "aloha"
        raise UserError(
            f"{files[0]}: got {', '.join(file) or 'nothing'} at its root, expected robomimic's "
            "data/demo_*/obs or ALOHA's observations/images"
        )


def episode_of(
    take: Take, number: int, spec: DataSpec, scale: np.ndarray, config: ConvertConfig
) -> Episode:
    """The take with its pictures, as an episode of the dataset."""
    images = {}
    for camera in spec.cameras:
        frames = []
        turned = camera in config.flip or "all" in config.flip
        for picture in take.pictures(camera):
            picture = picture[::-1] if turned else picture
            picture = picture[..., ::-1] if config.swap_colours else picture
            frames.append(resize(picture, spec.image_size))
        images[camera] = np.stack(frames)  # Episode sees to it that there are T + 1
    T = take.steps
    action = np.zeros((T, spec.A), np.float32)
    if take.action is not None:
        action = np.clip(take.action / scale, -1.0, 1.0).astype(np.float32)
    success = np.zeros(T, bool) if take.success is None else take.success
    if config.success == "end":
        success = np.arange(T) == T - 1
    ended = np.zeros(T, bool)
    ended[-1] = take.terminated or success[-1]
    outcome = "success" if success[-1] else "failure"
    if take.success is None and config.success == "file":
        outcome = "unknown"
    return Episode(
        images, take.proprio if take.proprio.shape[1] else np.zeros((T + 1, 1), np.float32),
        action, action, take.reward, ended, (np.arange(T) == T - 1) & ~ended, success,
        task_of(take, config), number, outcome, known=take.action is not None,
    )  # fmt: skip


def imitated(episode: Episode, config: ConvertConfig) -> bool:
    """Whether plans may be learned from it."""
    return episode.known and (
        config.plans == "all" or (config.plans == "success" and episode.succeeded)
    )


def shards_of(takes: list[Take], spec: DataSpec) -> list[range]:
    """Numbers of the episodes in each shard: as many as memory may hold at once."""
    shards, start, held = [], 0, 0
    for i, take in enumerate(takes):
        size = (take.steps + 1) * len(spec.cameras) * math.prod(spec.image_size) * 3
        if i > start and (i - start == SHARD_EPISODES or held + size > SHARD_BYTES):
            shards.append(range(start, i))
            start, held = i, 0
        held += size
    return [*shards, range(start, len(takes))]


def convert(
    config: ConvertConfig, out: Path, on_progress: Callable[[int, str], None] | None = None,
    source: Source | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write the dataset into ``out`` and return a summary. ``source`` is what `read_source` gave.

    UserError when the source is incomplete or does not fit itself, or when ``out`` holds something
    else; nothing is written then.
    """
    source = source or read_source(config)
    takes = source.takes[: config.episodes or None]
    source = replace(source, takes=takes)
    spec, scale = spec_of(source, config)
    for name in config.flip:
        if name != "all" and name not in spec.cameras:
            raise UserError(f"flip: there is no camera '{name}'; there are {list(spec.cameras)}")
    stats = [[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in source.files]
    mark = hashlib.sha256(json.dumps(stats).encode()).hexdigest()
    about = {"format": source.format, "config": {**asdict(config), "source": str(config.source)},
             "action_scale": scale.tolist()}  # fmt: skip
    if (out / lerobot.INFO).exists() and not (out / CLAIM).exists():
        raise UserError(f"{out} already holds a dataset; choose another out=…")
    claim(out / CLAIM, {**about["config"], "format": source.format, "files": mark}, "dataset")
    notes = [*source.notes, *remarks(source, spec, scale, config)]
    if (out / lerobot.INFO).exists():
        if on_progress:
            on_progress(len(takes), "already converted")
        return {**lerobot.read_json(out / lerobot.SPEC)["summary"], "notes": notes}
    shards = shards_of(takes, spec)
    for k, numbers in enumerate(shards):
        if not shard_file(out, k).exists():
            found = [episode_of(takes[i], i, spec, scale, config) for i in numbers]
            shown = [imitated(e, config) for e in found]
            write_shard(out, spec, k, numbers[0], found, shown, len(found))
        if on_progress:
            on_progress(len(numbers), takes[numbers[-1]].name)
    summary = finish(out, spec, range(len(shards)), about)
    return {**summary, "notes": notes}
