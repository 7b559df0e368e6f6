"""Checkpoints: weights as safetensors whose header says what they are; nothing is unpickled.

A checkpoint is a folder with ``model.safetensors`` (EMA weights; its metadata hold the format, the
DataSpec, the model's config and its origin), and a readable copy of those in ``config.json``.
Training state for resuming is one more file, ``state.safetensors``, never needed to use the model.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from worldmodel.build import build
from worldmodel.errors import RunError, UserError
from worldmodel.files import atomic, write_json
from worldmodel.hub import CONFIG, WEIGHTS
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.spec import DataSpec

FORMAT = 6
STATE = "state.safetensors"
#: read in fp32 whatever the rest is in: their errors add up over a rollout
EXACT = ("motion.", "read_change.", "read_outcome.")


@dataclass(frozen=True)
class Checkpoint:
    """A model ready for use and what its file says of it."""

    model: WorldModel
    about: dict[str, Any]  # objective, training steps, dataset, commit, versions …


def write_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Atomically write ``tensors`` with ``header`` as JSON in the metadata.

    Raises RunError when the disk is full; what stood at ``path`` is still there then.
    """
    whole = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    try:
        with atomic(path) as temporary:
            save_file(whole, temporary, {"worldmodel": json.dumps(header)})
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"could not write {path}: {error}; the earlier file, if any, is unchanged. "
            "Free some space and resume"
        ) from error


def read_tensors(path: Path, written: int = FORMAT) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Inverse of :func:`write_tensors`; UserError for a broken file or one that isn't ours, which
    includes one ``written`` in another format."""
    if not path.exists():
        raise UserError(f"there is no {path}; expected a checkpoint folder with {WEIGHTS}")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["worldmodel"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except KeyError as error:
        raise UserError(
            f"{path} is a safetensors file without a worldmodel header: not one of our checkpoints"
        ) from error
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is truncated or corrupt ({error}); copy it again or use an earlier checkpoint"
        ) from error
    if header.get("format") != written:
        raise UserError(
            f"{path} has checkpoint format {header.get('format')}, this version reads {written}: "
            "use the worldmodel release that wrote it, or train again"
        )
    return tensors, header


def save(
    folder: Path, model: WorldModel, about: dict[str, Any],
    weights: dict[str, Tensor] | None = None,
) -> None:  # fmt: skip
    """Write the checkpoint of ``model`` into ``folder``; ``weights`` where it has but a part."""
    header = {
        "format": FORMAT,
        "spec": model.spec.to_json(),
        "model": asdict(model.config),
        "about": about,
    }
    write_tensors(folder / WEIGHTS, weights or model.state_dict(), header)
    write_json(folder / CONFIG, header)


def load(path: str | Path) -> Checkpoint:
    """The checkpoint in folder ``path``, on the CPU, in eval mode; needs nothing but the path."""
    folder = Path(path)
    file = folder / WEIGHTS if folder.is_dir() or not folder.suffix else folder
    tensors, header = read_tensors(file)
    try:
        spec = DataSpec.from_json(header["spec"])
        model = WorldModel(spec, build(ModelConfig, header["model"]))
        tensors.setdefault("doubt", model.doubt)  # of before there was one
        model.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{file}: weights and header don't fit each other ({error}); "
            "the file was edited or comes from another version"
        ) from error
    return Checkpoint(model.eval().requires_grad_(False), header.get("about", {}))


def compact(source: str | Path, target: str | Path) -> None:
    """Write the checkpoint in folder ``source`` to ``target`` at half the size: matrices in bf16,
    in which they are multiplied anyway, except those of EXACT. For passing on, not for training."""
    loaded = load(source)
    weights = {
        name: x.bfloat16() if x.ndim in (2, 4) and not name.startswith(EXACT) else x
        for name, x in loaded.model.state_dict().items()
    }
    save(Path(target), loaded.model, loaded.about, weights)


def pack(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{key}": value for key, value in state.items()}


def unpack(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's per-parameter state as flat tensors."""
    return {
        f"{i}.{key}": value
        for i, entry in optimizer.state_dict()["state"].items()
        for key, value in entry.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Inverse of :func:`optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        i, key = name.split(".", 1)
        state.setdefault(int(i), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
