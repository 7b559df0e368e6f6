"""The checkpoints that come with the package, and how a name or a path finds one.

What names a checkpoint is, in this order: a path that exists; the name of a shipped one; and where
there is no such folder, ``user/name`` or ``user/name@revision``, a repository on the Hugging Face
Hub. So a folder ``user/name`` hides the repository, and ``user/name@main`` still means that one.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from pathlib import Path

from worldmodel import hub
from worldmodel.errors import UserError

CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"


def shipped_checkpoints() -> dict[str, Path]:
    """Name and folder of every checkpoint in the package."""
    return {file.parent.name: file.parent for file in sorted(CHECKPOINTS.glob("*/config.json"))}


def find_checkpoint(name_or_path: str | Path, also_known: Sequence[str] = ()) -> Path:
    """The checkpoint folder that ``name_or_path`` means: a path, a shipped name, or one on the Hub,
    which is downloaded.

    A training run's folder stands for the ``checkpoint`` in it. UserError for none of them,
    RunError where the Hub is out of reach.
    ``also_known`` are other words the caller takes in this place, for the did-you-mean.
    """
    path = Path(name_or_path).expanduser()
    if path.exists():
        inner = path / "checkpoint"
        return inner if (inner / "config.json").exists() else path
    shipped = shipped_checkpoints()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    if isinstance(name_or_path, str) and hub.parse(name_or_path):
        return hub.download(name_or_path)
    known = [*also_known, *shipped]
    near = difflib.get_close_matches(str(name_or_path), known, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    words = f"one of {', '.join(known)}" if known else "a shipped checkpoint (there is none)"
    raise UserError(
        f"'{name_or_path}' is neither an existing path nor {words}{hint}, "
        "nor user/name on the Hugging Face Hub"
    )


def known_as(path: str) -> str:
    """The name of a shipped checkpoint for its folder, wherever the package is installed; any other
    path as it is."""
    return Path(path).name if Path(path) in shipped_checkpoints().values() else path


def weights_sha256(folder: Path) -> str:
    """Of all weights in a checkpoint folder: two with the same are the same model."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


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
