"""From words on the command line to plain values.

Hydra composes the yaml files in ``configs/`` and reads the overrides; ``worldmodel.build`` then
makes the frozen dataclasses and says what is wrong in the user's words. Yaml names the pieces, a
dataclass says what they are.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from worldmodel.build import did_you_mean
from worldmodel.errors import UserError
from worldmodel.shipped import find_checkpoint

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def groups_of(command: str, extra_folder: Path | None = None) -> dict[str, list[str]]:
    """The config groups (folders of yaml files) that a command uses, and the choices in each."""
    used = (CONFIGS / f"{command}.yaml").read_text(encoding="utf-8")
    found: dict[str, set[str]] = {}
    for folder in (CONFIGS, *([extra_folder] if extra_folder else [])):
        for file in folder.glob("*/*.yaml"):
            if f"- {file.parent.name}:" in used:
                found.setdefault(file.parent.name, set()).add(file.stem)
    return {name: sorted(choices) for name, choices in sorted(found.items())}


def compose(
    command: str, overrides: Sequence[str], extra_folder: Path | None = None
) -> dict[str, Any]:
    """The plain values of ``configs/<command>.yaml`` with ``overrides``, as Hydra composes them."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if extra_folder is not None and not extra_folder.is_dir():
        raise UserError(f"--config-dir: there is no folder '{extra_folder}'")
    known = groups_of(command, extra_folder)
    words = [word for text in overrides for word in _override(text, known, command)]
    if extra_folder is not None:
        words.append(f"hydra.searchpath=[file://{extra_folder.resolve()}]")
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            config = hydra_compose(command, overrides=words)
        values = OmegaConf.to_container(config, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(str(error)) from error
    return typing.cast("dict[str, Any]", values)


def to_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as yaml."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(dict(values)))


def _override(text: str, known: Mapping[str, list[str]], command: str) -> list[str]:
    """One override as Hydra shall read it (a checkpoint becomes two).

    Every key is let through (``++``): which ones exist is for ``build`` to say, in clearer words.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if text.startswith("~"):
        return [text]  # Hydra's way to leave something out
    key = text.split("=", 1)[0].lstrip("+")
    if "=" not in text or not key:
        raise UserError(f"could not read '{text}': expected key=value, for example seed=1")
    value = text.split("=", 1)[1]
    if key in known:
        if key == "policy" and value not in known[key]:
            words = [choice for choice in known[key] if choice != "checkpoint"]
            path = str(find_checkpoint(value, words)).replace("'", "\\'")
            return ["policy=checkpoint", f"++policy.path='{path}'"]
        if value not in known[key]:
            other = "\n  any other: env=gymnasium env.id=…" if key == "env" else ""
            raise UserError(
                f"{key}: unknown choice '{value}'{did_you_mean(value, known[key])}\n"
                f"  known: {', '.join(known[key])}{other}"
            )
        return [f"{key}={value}"]
    try:
        parsed = OverridesParser.create().parse_override(text.lstrip("+"))
    except HydraException as error:
        raise UserError(
            f"could not read '{text}': a value with special characters needs quotes within quotes, "
            f"""as in '{key}="{value}"'"""
        ) from error
    if parsed.is_sweep_override():
        raise UserError(
            f"'{text}' names several values; write a list as {key}=[…], or run the command once "
            "for each"
        )
    return [f"++{text.lstrip('+')}"]
