"""To the Hugging Face Hub and back: ``push_to_hub`` and ``from_pretrained``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from worldmodel import checkpoint, hub
from worldmodel.card import card
from worldmodel.errors import UserError
from worldmodel.shipped import find_checkpoint


@dataclass(frozen=True)
class PushConfig:
    repo: str = field(
        metadata={"help": "user/name on the Hugging Face Hub; made if it isn't there"}
    )
    private: bool = field(default=False, metadata={"help": "make it one that only you can see"})
    revision: str | None = field(
        default=None, metadata={"help": "branch to put it on (none: main); made if it isn't there"}
    )
    license: str = field(default="apache-2.0", metadata={"help": "the weights' licence"})
    datasets: tuple[str, ...] = field(
        default=(), metadata={"help": "datasets on the Hub that it was trained on, as [user/name]"}
    )
    results: tuple[Path, ...] = field(
        default=(),
        metadata={"help": "folders of `worldmodel eval` runs of this checkpoint, for the card"},
    )
    upload: bool = field(
        default=True, metadata={"help": "false: write the card for a look at it, and stop"}
    )


def from_pretrained(name: str | Path) -> checkpoint.Checkpoint:
    """The checkpoint that ``name`` means: ``user/name`` or ``user/name@revision`` on the Hub, a
    folder, or a shipped name. On the CPU, in eval mode."""
    return checkpoint.load(find_checkpoint(name))


def card_of(folder: Path, config: PushConfig) -> str:
    """The model card of the checkpoint in ``folder``; UserError where that is none."""
    loaded = checkpoint.load(folder)
    if not (folder / checkpoint.CONFIG).exists():
        raise UserError(f"there is no {folder / checkpoint.CONFIG}; expected a checkpoint folder")
    _, header = checkpoint.read_tensors(folder / checkpoint.WEIGHTS)
    if json.loads((folder / checkpoint.CONFIG).read_text(encoding="utf-8")) != header:
        raise UserError(
            f"{folder / checkpoint.CONFIG} differs from what {checkpoint.WEIGHTS} says of itself; "
            "it is a copy of that and not to be edited: restore it"
        )
    return card(loaded, folder, config.repo, config.license, config.datasets, config.results)


def push_to_hub(name: str | Path, config: PushConfig) -> str:
    """Upload the checkpoint that ``name`` means with its card, nothing else; returns the commit's
    address. UserError where it can't be, RunError where the Hub is out of reach."""
    folder = find_checkpoint(name)
    return hub.upload(folder, card_of(folder, config), config.repo, config.private, config.revision)
