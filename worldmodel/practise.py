"""A policy's episodes inside the model, part by part, in worker processes.

What an episode is depends on its start, its seed and the others of its part; not on the number of
workers, nor on where an earlier run was stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodel import checkpoint
from worldmodel.device import pick_device
from worldmodel.imagined_episodes import ImaginedEpisode, play
from worldmodel.model import WorldModel
from worldmodel.pool import CONTEXT, in_processes, stopping
from worldmodel.rollout import RolloutConfig
from worldmodel.runs import usable_cores
from worldmodel.starts import Starts
from worldmodel.trials import Actor

FORMAT = 2  # of a file of episodes
PART = 40  # episodes: what a kill undoes, of each worker
WORLDS = 16  # of them at once: with more, most rows idle while a part's last episodes end


@dataclass(frozen=True)
class Practice:
    """Who imagines where. The factories must be picklable where several workers run."""

    make_policy: Callable[[], Actor]
    make_world: Callable[[], WorldModel]
    max_steps: int
    sampler: RolloutConfig
    seed: int  # episode i acts with seed + i
    folder: Path  # of the parts


def practise(
    practice: Practice, starts: Starts, workers: int, on_episode: Callable[[bool], None]
) -> list[ImaginedEpisode]:
    """An episode from each of ``starts``, by so many ``workers`` (0: one per core; a GPU has one).
    ``on_episode`` hears of each whether it succeeded.

    Parts found in ``practice.folder`` are not imagined again.
    """
    if pick_device(practice.sampler.device).type != "cpu":
        workers = 1
    firsts = range(0, len(starts), PART)
    todo = []
    for first in firsts:
        if (file := _file(practice.folder, first)).exists():
            for episode in read_episodes(file)[0]:
                on_episode(episode.success)
        else:
            todo.append((first, starts.only(np.arange(first, min(first + PART, len(starts))))))
    workers = min(workers or usable_cores(), len(todo))
    if workers > 1:
        _in_workers(practice, todo, workers, on_episode)
    elif todo:
        threads = torch.get_num_threads()
        try:
            made = _make(practice, on_episode)
            for job in todo:
                _imagine(made, job)
        finally:
            torch.set_num_threads(threads)
    return [e for first in firsts for e in read_episodes(_file(practice.folder, first))[0]]


def _in_workers(
    practice: Practice, todo: list[tuple[int, Starts]], workers: int,
    on_episode: Callable[[bool], None],
) -> None:  # fmt: skip
    """Their episodes are heard of as they end, not only part by part."""
    ended = CONTEXT.SimpleQueue()

    def hear() -> None:
        for success in iter(ended.get, None):
            on_episode(success)

    hearing = threading.Thread(target=hear)
    hearing.start()
    try:
        for _ in in_processes(partial(_make, practice, ended.put), _imagine, todo, workers):
            pass
    finally:
        ended.put(None)
        hearing.join()


_Made = tuple[Practice, Actor, WorldModel, Callable[[bool], None]]


def _make(practice: Practice, on_episode: Callable[[bool], None]) -> _Made:
    torch.set_num_threads(1)  # so that results don't depend on the number of workers
    return practice, practice.make_policy(), practice.make_world(), on_episode


def _imagine(made: _Made, job: tuple[int, Starts]) -> None:
    """Imagine and write one part."""
    (practice, policy, world, on_episode), (first, starts) = made, job
    found: dict[int, ImaginedEpisode] = {}
    for i, episode in play(
        policy, starts, world, practice.max_steps, practice.sampler, practice.seed + first, WORLDS
    ):
        found[i] = episode
        on_episode(episode.success)
        if stopping():
            return
    write_episodes(_file(practice.folder, first), [found[i] for i in range(len(starts))], {})


def _file(folder: Path, first: int) -> Path:
    return folder / f"from-{first:06d}.safetensors"


def write_episodes(file: Path, episodes: Sequence[ImaginedEpisode], about: dict[str, Any]) -> None:
    """Episodes, and what is to be said about them, atomically."""
    tensors = {
        "length": torch.tensor([len(e) for e in episodes], dtype=torch.int64),
        "success": torch.tensor([e.success for e in episodes], dtype=torch.bool),
    }
    if episodes:
        tensors |= {
            name: torch.from_numpy(np.concatenate([getattr(e, name) for e in episodes]))
            for name in ("images", "proprio", "action")
        }
    checkpoint.write_tensors(file, tensors, {"format": FORMAT, "about": about})


def read_episodes(file: Path) -> tuple[list[ImaginedEpisode], dict[str, Any]]:
    """What :func:`write_episodes` wrote."""
    tensors, header = checkpoint.read_tensors(file, FORMAT)
    arrays = {k: v.numpy() for k, v in tensors.items()}
    length = arrays["length"]
    seen, acted = np.cumsum(length + 1) - length - 1, np.cumsum(length) - length
    episodes = [
        ImaginedEpisode(
            arrays["images"][s : s + T + 1], arrays["proprio"][s : s + T + 1],
            arrays["action"][a : a + T], bool(won),
        )
        for s, a, T, won in zip(seen, acted, length, arrays["success"], strict=True)
    ]  # fmt: skip
    return episodes, header["about"]
