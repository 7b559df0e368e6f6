"""Along recorded episodes inside the model: imagining them, or only watching them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldmodel.checkpoint import read_tensors, write_tensors
from worldmodel.leaves import READINGS
from worldmodel.model import WorldModel
from worldmodel.recording import Recording
from worldmodel.rollout import Imagination, RolloutConfig, generators_from

BATCH = 32
FORMAT = 2  # of the files that keep batches


class Retraced(NamedTuple):
    """One episode of T steps, at o_1 … o_T."""

    images: np.ndarray  # uint8 (T, C, h, w, 3)
    proprio: np.ndarray  # float32 (T, P)
    outcomes: np.ndarray  # float32 (T, 5) what the outcome leaf reads: leaves.READINGS


def dream(
    model: WorldModel, recordings: Sequence[Recording], sampler: RolloutConfig, seed: int,
    on_progress: Callable[[int], None], keep: Path | None = None,
) -> list[Retraced]:  # fmt: skip
    """Each recording imagined from its o_0 and its actions.

    In the folder ``keep`` each batch is kept once it is done, and taken from there by a later call
    along the same recordings; that model and sampler are the same too is for the caller to see to.
    """

    def advance(world: Imagination, part: list[Recording], n: int) -> None:
        world.step(_actions(part, n))

    return _retrace(model, recordings, sampler, seed, advance, on_progress, keep)


def watch(
    model: WorldModel, recordings: Sequence[Recording], on_progress: Callable[[int], None],
    keep: Path | None = None,
) -> list[Retraced]:  # fmt: skip
    """Each recording as it was: only the outcomes are the model's, and nothing strays. ``keep`` as
    in :func:`dream`."""

    def advance(world: Imagination, part: list[Recording], n: int) -> None:
        seen = [(r.images[min(n + 1, len(r))], r.proprio[min(n + 1, len(r))]) for r in part]
        images, proprio = (torch.from_numpy(np.stack(x)) for x in zip(*seen, strict=True))
        world.observe(_actions(part, n), images, proprio)

    seen = _retrace(model, recordings, RolloutConfig(), 0, advance, on_progress, keep)
    imagined = np.array(READINGS) == "strayed"
    return [r._replace(outcomes=np.where(imagined, 0.0, r.outcomes)) for r in seen]


def _retrace(
    model: WorldModel, recordings: Sequence[Recording], sampler: RolloutConfig, seed: int,
    advance: Callable[[Imagination, list[Recording], int], None],
    on_progress: Callable[[int], None], keep: Path | None,
) -> list[Retraced]:  # fmt: skip
    order = sorted(range(len(recordings)), key=lambda i: len(recordings[i]))  # alike in length
    found: dict[int, Retraced] = {}
    for at in range(0, len(order), BATCH):
        rows = order[at : at + BATCH]
        part = [recordings[i] for i in rows]
        file = keep / f"{at:05d}.safetensors" if keep is not None else None
        whole = _kept(file, part) if file is not None and file.exists() else None
        if whole is None:
            generators = generators_from(seed + at, len(part), model.grid.device)
            whole = _along(model, part, sampler, generators, advance)
            if file is not None:
                tensors = {k: torch.from_numpy(v) for k, v in whole._asdict().items()}
                write_tensors(file, tensors, {"format": FORMAT, "along": _mark(part)})
        found |= {i: Retraced(*(x[k, : len(part[k])] for x in whole)) for k, i in enumerate(rows)}
        on_progress(len(rows))
    return [found[i] for i in range(len(recordings))]


def _kept(file: Path, part: list[Recording]) -> Retraced | None:
    """What was kept of these recordings; None where the file is of others."""
    tensors, header = read_tensors(file, FORMAT)
    if header["along"] != _mark(part):
        return None
    return Retraced(**{k: v.numpy() for k, v in tensors.items()})


def _mark(part: list[Recording]) -> str:
    """Names the recordings: an env need not do the same again."""
    mark = hashlib.sha256()
    for r in part:
        for array in (r.images, r.proprio, r.action):
            mark.update(np.ascontiguousarray(array).tobytes())
    return mark.hexdigest()


def _along(
    model: WorldModel, part: list[Recording], sampler: RolloutConfig,
    generators: Sequence[torch.Generator],
    advance: Callable[[Imagination, list[Recording], int], None],
) -> Retraced:  # fmt: skip
    """These recordings side by side, (B, T, …) with T steps of the longest."""
    world = Imagination(
        model, torch.from_numpy(np.stack([r.images[0] for r in part])),
        torch.from_numpy(np.stack([r.proprio[0] for r in part])),
        generators=generators, config=sampler,
    )  # fmt: skip
    steps: list[list[np.ndarray]] = []
    for n in range(max(map(len, part))):
        advance(world, part, n)
        now = world.show(), world.proprio.float(), world.outcomes().float()
        steps.append([x.cpu().numpy() for x in now])
    return Retraced(*(np.stack(x, axis=1) for x in zip(*steps, strict=True)))


def _actions(part: list[Recording], n: int) -> Tensor:
    """(B, A) the recorded actions at step n, zeros past an episode's end."""
    still = np.zeros_like(part[0].action[0])
    return torch.from_numpy(np.stack([r.action[n] if n < len(r) else still for r in part]))
