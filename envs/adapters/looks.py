"""What the suites that simulate in MuJoCo have in common here: versions, and pictures."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Any


def need(suite: str, pip: str, below: tuple[int, int] | None = None, why: str = "") -> None:
    """RuntimeError with the pip command where `suite` is not installed, or where MuJoCo's version
    is not `below` this one."""
    if importlib.util.find_spec(suite) is None:
        raise RuntimeError(
            f"{suite} is not installed. In an environment of its own (docs/third_party.md): "
            f"python -m pip install {pip}"
        )
    if below is None:
        return
    found = importlib.metadata.version("mujoco")
    if version_of(found) >= below:
        wanted = ".".join(map(str, below))
        raise RuntimeError(
            f"{suite} needs a mujoco before {wanted}, here is {found}: {why}. In an environment of "
            f"its own, not in place (docs/third_party.md): python -m pip install {pip}"
        )


def version_of(text: str) -> tuple[int, int]:
    """(major, minor) of a version as text."""
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def plain(model: Any) -> Any:
    """The MuJoCo model without shadows, reflections and multisampling, which cost a software
    renderer most of its time; before a renderer is made of it."""
    model.vis.quality.shadowsize = 0
    model.vis.quality.offsamples = 0
    model.mat_reflectance[:] = 0.0
    return model
