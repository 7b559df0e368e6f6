"""Writing a file so that nobody ever sees half of it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path that takes the place of ``path`` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp's 0600 would hide a report from the other users
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON, atomically. A figure that there is not, NaN or infinite,
    becomes null: JSON has no other word for it, and most readers stop at ``NaN``."""
    text = json.dumps(_known(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def _known(value: object) -> object:
    """``value`` with None in the place of every number that is not finite."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {key: _known(part) for key, part in value.items()}
        case list() | tuple():
            return [_known(part) for part in value]
    return value
