"""The command that uploads a checkpoint: its words are dataclasses by now (see worldmodel.jobs)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from worldmodel.files import write_text
from worldmodel.jobs import CheckpointOptions, write_table
from worldmodel.shipped import find_checkpoint

if TYPE_CHECKING:
    from worldmodel.pretrained import PushConfig


def run_push(folder: Path, options: CheckpointOptions, config: PushConfig) -> None:
    from worldmodel import hub
    from worldmodel.pretrained import card_of

    place = find_checkpoint(options.checkpoint)
    text = card_of(place, config)
    write_text(folder / hub.CARD, text)
    print(f"card: {folder / hub.CARD}")
    if not config.upload:
        return
    address = hub.upload(place, text, config.repo, config.private, config.revision)
    sizes = {name: (place / name).stat().st_size for name in (hub.CONFIG, hub.WEIGHTS)}
    sizes[hub.CARD] = len(text.encode())
    result = {"checkpoint": options.checkpoint, **asdict(config), "commit": address, "bytes": sizes}
    result["results"] = [str(path) for path in config.results]
    write_table("Upload to the Hugging Face Hub", result, folder)
    print(f"policy=… is {config.repo}{f'@{config.revision}' if config.revision else ''}")
