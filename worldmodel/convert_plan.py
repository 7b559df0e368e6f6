"""What a source will become: which of it, in which size, in which units."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from worldmodel.errors import UserError
from worldmodel.spec import DataSpec
from worldmodel.takes import Source, Take

TINY = 0.1  # actions that never get beyond are rescaled too: a model would hardly see them


@dataclass(frozen=True)
class ConvertConfig:
    source: Path = field(
        metadata={"help": "an HDF5 file, a folder of them or of episodes, or a LeRobotDataset"}
    )
    format: Literal["auto", "robomimic", "aloha", "lerobot", "frames"] = field(
        default="auto", metadata={"help": "auto: looked for in the source"}
    )
    frequency: float | None = field(
        default=None, metadata={"help": "steps per second [Hz]; none: as the source says"}
    )
    task: str = field(
        default="", metadata={"help": "what is done, in words; '': as the source says"}
    )
    cameras: tuple[str, ...] = field(default=(), metadata={"help": "which, in order; []: all"})
    proprio: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "keys or columns of proprioception, in order; []: robomimic: poses of hand and "
            "gripper, ALOHA: qpos, LeRobot: observation.state, CSV: all that is no action"
        },
    )
    image_size: tuple[int, ...] = field(
        default=(),
        metadata={"help": "96, or [height, width]; []: as it is. Models want multiples of 16"},
    )
    flip: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "cameras whose pictures stand on their heads, or 'all'. Those of robomimic's "
            "own files stand upright, those that robosuite wrote unturned (LIBERO's) do not"
        },
    )
    swap_colours: bool = field(
        default=False,
        metadata={"help": "red and blue are interchanged, as in JPEGs that OpenCV wrote from RGB"},
    )
    success: Literal["file", "end"] = field(
        default="file",
        metadata={
            "help": "file: where rewards of 0 and 1 or a column say so; end: every episode is a "
            "demonstration that succeeds with its last step"
        },
    )
    plans: Literal["all", "success", "none"] = field(
        default="all", metadata={"help": "episodes whose actions may be imitated"}
    )
    filter: str = field(default="", metadata={"help": "robomimic: only the demos of mask/<filter>"})
    episodes: int = field(default=0, metadata={"help": "only so many, the first ones; 0: all"})

    def __post_init__(self) -> None:
        if len(self.image_size) > 2 or any(n < 16 for n in self.image_size):
            raise ValueError(
                f"image_size: got {list(self.image_size)}, expected 96 or [h, w], ≥ 16"
            )
        if self.episodes < 0:
            raise ValueError(f"episodes: got {self.episodes}, expected 0 or more")


def spec_of(source: Source, config: ConvertConfig) -> tuple[DataSpec, np.ndarray]:
    """The spec of the dataset, without statistics, and how much an action of 1 was (A,)."""
    frequency = config.frequency or source.frequency
    if frequency is None:
        hint = "; ALOHA records at 50 Hz: frequency=50" if source.format == "aloha" else ""
        raise UserError(f"frequency: the source does not say; add frequency=… [Hz]{hint}")
    if source.frequency and abs(frequency - source.frequency) > 0.02 * source.frequency:
        raise UserError(
            f"frequency: got {frequency:g} Hz, the source has {source.frequency:g} Hz; leave "
            "frequency out, or bring the recordings to that rate first: steps are not resampled, "
            "which would change what an action means"
        )
    if frequency != round(frequency):
        raise UserError(
            f"frequency: got {frequency:g} Hz, expected a whole number: v3 stores it as one"
        )
    cameras = config.cameras or tuple(source.takes[0].sizes)
    sizes = {(t.name, c): t.sizes[c] for t in source.takes for c in cameras}
    size = config.image_size * (2 if len(config.image_size) == 1 else 1)
    if not size:
        size = next(iter(sizes.values()))
        for (take, camera), other in sizes.items():
            if other != size:
                raise UserError(
                    f"image_size: {source.takes[0].name}, '{cameras[0]}' has {size[0]} x "
                    f"{size[1]}, {take}, '{camera}' has {other[0]} x {other[1]}; a dataset has one "
                    "size: give image_size=96, or choose cameras=…"
                )
    scale = scales(source.takes)
    names = tuple(
        scaled_name(n, s)
        for n, s in zip(source.action_names or ("unknown [1]",), scale, strict=True)
    )
    tasks = tuple(dict.fromkeys(task_of(take, config) for take in source.takes))
    spec = DataSpec(
        env="", env_options={}, cameras=tuple(cameras), image_size=(size[0], size[1]),
        proprio_names=source.proprio_names or ("none [1]",), action_names=names,
        control_frequency=float(frequency), tasks=tasks,
    )  # fmt: skip
    return spec, scale


def task_of(take: Take, config: ConvertConfig) -> str:
    """What is done in a take: as asked for, as its source says, or the source's name."""
    return config.task or take.task or config.source.resolve().stem


def scales(takes: list[Take]) -> np.ndarray:
    """(A,) what each dimension of the actions is divided by, so that all fit into [-1, 1].

    1 where they fit as they are. Where they leave it, or never get beyond TINY, the largest there
    is, rounded up to three digits. Zero stays zero.
    """
    acting = [t.action for t in takes if t.action is not None]
    if not acting:
        return np.ones(1)
    largest = np.max([np.abs(a).max(0) for a in acting], axis=0).astype(np.float64)
    fits = ((largest <= 1 + 1e-6) & (largest > TINY)) | (largest < 1e-9)
    return np.where(fits, 1.0, [_up(x) for x in largest])


def _up(x: float) -> float:
    """``x`` rounded up to three digits."""
    if x < 1e-9:
        return 1.0
    power = 10.0 ** (math.floor(math.log10(x)) - 2)
    return float(f"{math.ceil(x / power - 1e-4) * power:.3g}")


def scaled_name(name: str, scale: float) -> str:
    """The name of an action of which 1 means ``scale`` of what it meant: 'dx [m]', 'dx [0.1 m]'."""
    if scale == 1:
        return name
    named = re.fullmatch(r"(.*?) *(?:\[([\d.]*) *([^\]]*)\])?", name)
    stem, number, unit = named.groups() if named else (name, None, None)
    size = f"{scale * float(number or 1):g} {unit or ''}".strip()
    return f"{stem} [{size}]"


def remarks(source: Source, spec: DataSpec, scale: np.ndarray, config: ConvertConfig) -> list[str]:
    """What was decided, and what a user may want otherwise."""
    found = []
    divided = [f"'{old}' by {s:g}" for old, s in zip(source.action_names, scale, strict=False)
               if s != 1]  # fmt: skip
    if divided:
        found.append(f"actions were divided to fit [-1, 1], as their names say: "
                     f"{', '.join(divided)}")  # fmt: skip
    silent = sum(t.action is None for t in source.takes)
    if silent:
        found.append(f"{silent} of {len(source.takes)} episodes have no actions: the model learns "
                     "from them what follows, without plans")  # fmt: skip
    if not source.proprio_names:
        found.append("there is no proprioception: a constant zero stands in its place")
    untold = sum(t.success is None for t in source.takes)
    if untold and config.success == "file":
        found.append(f"whether it succeeds is not told in {untold} episodes; success=end where "
                     "they are demonstrations")  # fmt: skip
    for camera in spec.cameras:
        sizes = {t.sizes[camera] for t in source.takes} - {spec.image_size}
        if sizes:
            told = ", ".join(f"{h} x {w}" for h, w in sorted(sizes))
            found.append(f"camera '{camera}': {told} became {'{} x {}'.format(*spec.image_size)}")
    if any(n % 16 for n in spec.image_size):
        h, w = spec.image_size
        found.append(f"pictures of {h} x {w}: models take multiples of 16; image_size=… resizes")
    return found
