"""Where imagined episodes begin: real observations, beside a checkpoint or in a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodel.build import did_you_mean
from worldmodel.checkpoint import WEIGHTS, read_tensors, write_tensors
from worldmodel.dataset import Dataset
from worldmodel.errors import UserError
from worldmodel.spec import DataSpec, check_compatible

FORMAT = 1  # of the file
FILE = "starts.safetensors"


class Starts(NamedTuple):
    """n observations."""

    images: np.ndarray  # uint8 (n, C, h, w, 3)
    proprio: np.ndarray  # float32 (n, P)

    def __len__(self) -> int:  # a NamedTuple's is its number of fields
        return len(self.images)

    def only(self, index: np.ndarray) -> Starts:
        """Those of these numbers (k,), in this order."""
        return Starts(self.images[index], self.proprio[index])

    def take(self, index: np.ndarray) -> tuple[Tensor, Tensor]:
        """Those of these numbers (k,) as tensors: images (k, C, h, w, 3), proprio (k, P)."""
        return torch.from_numpy(self.images[index]), torch.from_numpy(self.proprio[index])


def starts_of(dataset: Dataset, episodes: list[int]) -> Starts:
    """The first observations of these episodes."""
    first = np.array([dataset.episodes[i].start for i in episodes])
    return Starts(dataset.stream("images")[first], dataset.stream("proprio")[first])


def starts_within(dataset: Dataset, count: int, share: float, seed: int) -> Starts:
    """``count`` observations: of ``share`` of them any of its episode but the last, else the first.

    All episodes are gone through, in an order drawn with ``seed``, before one comes again.
    """
    rng = np.random.default_rng(seed)
    start, length = np.array([(e.start, e.length) for e in dataset.episodes]).T
    which = _in_turn(len(dataset), count, rng)
    amid = rng.random(count) < share
    index = start[which] + np.where(amid, rng.integers(np.maximum(length[which], 1)), 0)
    return Starts(dataset.stream("images")[index], dataset.stream("proprio")[index])


def _in_turn(n: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count,) of the numbers below n, each once before one comes again."""
    return np.concatenate([rng.permutation(n) for _ in range(-(-count // n))])[:count]


def starts_from(observations: Sequence[Mapping[str, np.ndarray]], spec: DataSpec) -> Starts:
    """What ``env.reset`` returned, some times over."""
    images = np.stack([np.stack([o[name] for name in spec.cameras]) for o in observations])
    return Starts(images, np.stack([o["proprio"] for o in observations]).astype(np.float32))


def asking_for(task: str, starts: Starts, spec: DataSpec) -> np.ndarray:
    """The numbers (k,) of the starts that ask for ``task``; UserError where none does.

    Which one is asked for stands in proprioception, as 1 in the entry ``task_<name> [1]``.
    """
    told = {
        name.removeprefix("task_").removesuffix(" [1]"): i
        for i, name in enumerate(spec.proprio_names) if name.startswith("task_")
    }  # fmt: skip
    if not told and task in spec.tasks and len(spec.tasks) == 1:
        return np.arange(len(starts))
    if task not in told:
        known = ", ".join(told or spec.tasks)
        raise UserError(f"task: got '{task}'{did_you_mean(task, told)}; the model knows {known}")
    found = np.flatnonzero(starts.proprio[:, told[task]] > 0.5)
    if not len(found):
        raise UserError(f"task: none of the {len(starts)} starts asks for '{task}'; give others")
    return found


def save_starts(folder: Path, starts: Starts) -> None:
    """Write ``folder/starts.safetensors``, atomically."""
    tensors = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in starts._asdict().items()}
    write_tensors(folder / FILE, tensors, {"format": FORMAT})


def load_starts(path: str | Path, spec: DataSpec) -> Starts:
    """The starts of a checkpoint's folder, or the first observations of all episodes of a
    dataset's; UserError when it is neither, or does not fit ``spec``."""
    path = Path(path).expanduser()
    if (path / FILE).exists():
        tensors, _ = read_tensors(path / FILE, FORMAT)
        starts = Starts(tensors["images"].numpy(), tensors["proprio"].numpy())
        wanted = (len(spec.cameras), *spec.image_size, 3), (spec.P,)
        if (starts.images.shape[1:], starts.proprio.shape[1:]) != wanted:
            raise UserError(
                f"{path / FILE} holds observations of {starts.images.shape[1:]} and "
                f"{starts.proprio.shape[1:]}, the model takes {wanted[0]} and {wanted[1]}"
            )
        return starts
    if (path / WEIGHTS).exists():
        raise UserError(f"the checkpoint {path} has no {FILE}; give starts=<a dataset's folder>")
    dataset = Dataset(path)
    check_compatible(dataset.spec, spec)
    return starts_of(dataset, list(range(len(dataset))))


def draw_starts(
    path: str | Path, spec: DataSpec, count: int, within: float = 0.0, seed: int = 0
) -> Starts:
    """``count`` starts, each of :func:`load_starts` once before one comes again; of a dataset a
    share ``within`` lies in the midst of the episodes (:func:`starts_within`)."""
    if not within:
        starts = load_starts(path, spec)
        index = _in_turn(len(starts), count, np.random.default_rng(seed))
        return starts.only(index)
    path = Path(path).expanduser()
    if (path / FILE).exists():
        raise UserError(
            f"within: got {within}, but {path} holds first observations alone; give "
            "starts=<a dataset's folder>"
        )
    dataset = Dataset(path)
    check_compatible(dataset.spec, spec)
    return starts_within(dataset, count, within, seed)
