"""The checkpoints that come with the package, and how a name or a path finds one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from worldmodel.errors import UserError

CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"


def shipped_checkpoints() -> dict[str, Path]:
    """Name and folder of every checkpoint in the package."""
    return {file.parent.name: file.parent for file in sorted(CHECKPOINTS.glob("*/config.json"))}


def find_checkpoint(name_or_path: str | Path, also_known: Sequence[str] = ()) -> Path:
    """The checkpoint folder that ``name_or_path`` means: an existing path, or a shipped name.

    A training run's folder stands for the ``checkpoint`` in it.
    ``also_known`` are other words the caller takes in this place, for the did-you-mean.
    """
    path = Path(name_or_path).expanduser()
    if path.exists():
        inner = path / "checkpoint"
        return inner if (inner / "config.json").exists() else path
    shipped = shipped_checkpoints()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    known = [*also_known, *shipped]
    near = difflib.get_close_matches(str(name_or_path), known, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    words = f"one of {', '.join(known)}" if known else "a shipped checkpoint (there is none)"
    raise UserError(f"'{name_or_path}' is neither an existing path nor {words}{hint}")


def find_probe(name_or_path: str) -> Path:
    """The folder of a state probe: an existing path, or the name of one in the package."""
    for folder in (Path(name_or_path).expanduser(), CHECKPOINTS / name_or_path):
        if (folder / "probe.safetensors").exists():
            return folder
    known = sorted(file.parent.name for file in CHECKPOINTS.glob("*/probe.safetensors"))
    raise UserError(
        f"probe: '{name_or_path}' is neither the folder of a state probe nor one of "
        f"{', '.join(known) or 'the shipped ones (there is none)'}; train one: worldmodel probe"
    )
