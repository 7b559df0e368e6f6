"""What is read of recordings from elsewhere, whatever their format: takes, a take an episode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from worldmodel.build import did_you_mean
from worldmodel.errors import UserError


@dataclass(frozen=True)
class Wanted:
    """What is asked for of the source."""

    cameras: tuple[str, ...] = ()  # (): all
    proprio: tuple[str, ...] = ()  # (): what the format suggests
    filter: str = ""  # robomimic's filter key; "": every episode


@dataclass(frozen=True)
class Take:
    """One recorded episode of T steps. Numbers are in memory, pictures are not."""

    name: str  # as the user knows it, for messages: a file, a group in a file, a folder
    steps: int  # T
    sizes: dict[str, tuple[int, int]]  # camera -> (h, w) of its pictures
    pictures: Callable[[str], Iterator[np.ndarray]]  # of a camera: T + 1 uint8 (h, w, 3)
    proprio: np.ndarray  # float32 (T + 1, P)
    action: np.ndarray | None  # float32 (T, A); None: a video without actions
    reward: np.ndarray  # float32 (T,), zeros where nothing is known
    success: np.ndarray | None  # bool (T,); None: the source does not say
    terminated: bool = False  # whether the task ended it, as far as the source says
    task: str = ""  # in words; "": the source does not say


@dataclass(frozen=True)
class Source:
    """All takes of a source, and what it says about itself."""

    format: str
    takes: list[Take]
    proprio_names: tuple[str, ...]
    action_names: tuple[str, ...]
    files: list[Path]  # that it was read from
    frequency: float | None = None  # Hz; None: it does not say
    notes: list[str] = field(default_factory=list)  # what the user should know


def choose(kind: str, wanted: Sequence[str], there: Sequence[str], where: str) -> list[str]:
    """The ``wanted`` names, or all of ``there`` when none are; UserError for one that is not."""
    for name in wanted:
        if name not in there:
            raise UserError(
                f"{kind}: {where} has no '{name}'{did_you_mean(name, there)}\n"
                f"  it has: {', '.join(there) or 'none'}"
            )
    return list(wanted or there)


def vectors(values: np.ndarray, what: str) -> np.ndarray:
    """Numbers per step as float32 (n, d); UserError when they are something else, or not finite."""
    if values.dtype.kind not in "fiub" or values.ndim not in (1, 2):
        raise UserError(
            f"{what}: got {values.dtype} {values.shape}, expected numbers (steps, dimensions)"
        )
    x = values.astype(np.float32).reshape(len(values), -1)
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        raise UserError(
            f"{what}: {len(bad)} values are not finite, the first at step {bad[0][0]}, dimension "
            f"{bad[0][1]}; repair or leave out that episode"
        )
    return x


def same_length(lengths: dict[str, int], name: str) -> int:
    """The one length of all these streams of a take; UserError with each one's when they differ."""
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{key} {n}" for key, n in lengths.items())
        raise UserError(
            f"{name}: streams of different lengths: {told}; expected an entry of each per step. "
            "Frames were lost in recording, or files are mixed: repair or leave out that episode"
        )
    n = next(iter(lengths.values()))
    if n < 2:
        raise UserError(f"{name}: got {n} observations, expected at least 2; leave it out")
    return n


def same_in_all(takes: Sequence[Take]) -> None:
    """UserError when takes have different cameras, sizes or numbers of dimensions."""
    first = takes[0]
    acting = next((t for t in takes if t.action is not None), None)
    for take in takes:
        for what, ours, theirs in (
            ("cameras", sorted(take.sizes), sorted(first.sizes)),
            ("dimensions of proprioception", take.proprio.shape[1], first.proprio.shape[1]),
        ):
            if ours != theirs:
                raise UserError(
                    f"{what}: {take.name} has {ours}, {first.name} has {theirs}; one dataset has "
                    "the same for all: choose with cameras=… and proprio=…, or convert them apart"
                )
        if take.action is not None and acting is not None and acting.action is not None:
            ours, theirs = take.action.shape[1], acting.action.shape[1]
            if ours != theirs:
                raise UserError(
                    f"actions: {take.name} has {ours} dimensions, {acting.name} has {theirs}; "
                    "they are of different robots: convert them apart"
                )
