"""``worldmodel <command> key=value …``: words in, exit code out. Nothing heavy is imported here."""

from __future__ import annotations

import difflib
import errno
import os
import shlex
import shutil
import sys
import textwrap
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldmodel import __version__
from worldmodel.commands import COMMANDS, Command, load
from worldmodel.errors import RunError, UserError

FLAGS = {
    "--help": "what a command does, with every key",
    "--config-dir DIR": "a folder with your own yaml files: DIR/env/my_env.yaml is env=my_env",
    "--print-config": "print the composed config and stop",
    "--traceback": "show where an error came from (or set WORLDMODEL_TRACEBACK=1)",
    "--version": "print the version",
}


@dataclass
class Call:
    """What the words on the command line ask for."""

    name: str = ""  # "eval", "bench env"; "" for none
    overrides: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    config_dir: Path | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 is success, 1 a failed run, 2 bad usage, 130 an interruption."""
    words = list(sys.argv[1:] if argv is None else argv)
    show = "--traceback" in words or os.environ.get("WORLDMODEL_TRACEBACK", "0") not in ("", "0")
    try:
        return _main(parse(words), words)
    except UserError as error:
        return _fail(2, str(error), show)
    except RunError as error:
        return _fail(1, str(error), show)
    except KeyboardInterrupt:
        return _fail(130, "interrupted", show)
    except BrokenPipeError:  # `worldmodel … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" while writing {error.filename}" if error.filename else ""
            return _fail(1, f"the disk is full{where}: free some space and run it again", show)
        return _fail(1, f"{type(error).__name__}: {error}", show, unexpected=True)
    except Exception as error:
        return _fail(1, f"{type(error).__name__}: {error}", show, unexpected=True)


def _fail(code: int, message: str, show: bool, unexpected: bool = False) -> int:
    if show:
        traceback.print_exc()
    elif unexpected:
        message += "\n  not expected here: run it again with --traceback to see where it comes from"
    print(f"error: {message}" if code != 130 else message, file=sys.stderr)
    return code


# -- reading the words ----------------------------------------------------------------------------


def parse(words: Sequence[str]) -> Call:
    """The command, its overrides and the flags in ``words``, or UserError."""
    call, rest = Call(), list(words)
    while rest:
        word = rest.pop(0)
        if word in ("--help", "-h", "help"):
            call.flags.add("--help")
        elif word == "--config-dir" or word.startswith("--config-dir="):
            value = word.partition("=")[2] or (rest.pop(0) if rest else "")
            if not value:
                raise UserError("--config-dir needs a folder: --config-dir my_configs")
            call.config_dir = Path(value).expanduser()
        elif word in FLAGS:
            call.flags.add(word)
        elif word.startswith("-"):
            raise UserError(_flag_hint(word, rest))
        elif "=" not in word and not call.overrides and call.name not in COMMANDS:
            call.name = f"{call.name} {word}".strip()
        else:
            call.overrides.append(word)
    if call.name and call.name not in COMMANDS:
        families = {name.split()[0] for name in COMMANDS if " " in name}
        if call.name not in families:
            known = [*COMMANDS, *families]
            near = difflib.get_close_matches(call.name, known, n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise UserError(f"unknown command '{call.name}'{hint}\n  known: {', '.join(COMMANDS)}")
    return call


def _flag_hint(word: str, rest: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, [f.split()[0] for f in FLAGS], n=1, cutoff=0.7)
    if near:
        return f"unknown flag '{word}'; did you mean '{near[0]}'?"
    key, _, value = word.lstrip("-").replace("-", "_").partition("=")
    value = value or (rest[0] if rest and not rest[0].startswith("-") else "…")
    return f"unknown flag '{word}'; settings are written without dashes: {key}={value}"


def _main(call: Call, words: Sequence[str]) -> int:
    if "--version" in call.flags:
        print(__version__)
        return 0
    if call.name not in COMMANDS:
        print(overview(call.name))
        return 0 if "--help" in call.flags else 2
    command = COMMANDS[call.name]
    if "--help" in call.flags:
        print(command_help(call.name, command, call.config_dir))
        return 0
    return _run(call, command, words)


# -- running --------------------------------------------------------------------------------------


def _run(call: Call, command: Command, words: Sequence[str]) -> int:
    from worldmodel.build import build_parts, plain
    from worldmodel.config import compose, to_yaml
    from worldmodel.runs import new_folder, process_number, provenance, write_run

    values = compose(call.name.replace(" ", "_"), call.overrides, call.config_dir)
    out = values.pop("out", None)
    parts = build_parts(load_parts(command), values)
    text = to_yaml({**_merge(parts, plain), "out": out})
    if "--print-config" in call.flags:
        print(text, end="")
        return 0
    job = load(command.job)
    if not command.writes:
        job(*parts.values())
        return 0
    folder = Path(str(out)).expanduser() if out else command.default_out(parts)
    number, processes = process_number()
    if folder is None and processes > 1:
        raise UserError(f"{processes} processes need one folder: give out=…")
    folder = folder or new_folder(call.name.replace(" ", "_"))
    about = provenance(["worldmodel", *words])
    # a run that goes on keeps its own until it is done
    if number == 0 and not (folder / "config.yaml").exists():
        write_run(folder, about, text)
    try:
        job(folder, *parts.values())
    except KeyboardInterrupt:
        again = [w for w in words if not w.startswith(("out=", "resume="))]
        again += [f"out={folder}", *command.resume]
        raise SystemExit(
            _fail(130, f"\ninterrupted; what was finished is in {folder}. To go on:\n"
                  f"  {shlex.join(['worldmodel', *again])}", show=False)
        ) from None  # fmt: skip
    if number == 0:
        write_run(folder, about, text)
    return 0


def load_parts(command: Command) -> dict[str, type]:
    """Where in the config each of the command's dataclasses stands -> the dataclass.

    Those at the root have the keys "", " ", …; importing them here keeps the start quick.
    """
    loaded: dict[str, type] = {}
    for part in command.parts:
        place, _, name = part.rpartition("=")
        while place in loaded:
            place += " "
        loaded[place] = load(name)
    return loaded


def _merge(parts: dict[str, Any], plain: Any) -> dict[str, Any]:
    """The parts as one tree: what config.yaml shows."""
    tree: dict[str, Any] = {}
    for place, value in parts.items():
        tree.update(plain(value) if not place.strip() else {place: plain(value)})
    return tree


# -- help -----------------------------------------------------------------------------------------


def overview(family: str = "") -> str:
    """What ``worldmodel --help`` prints; with ``family``, only the commands that begin with it."""
    chosen = {n: c for n, c in COMMANDS.items() if not family or n.split()[0] == family}
    width = max(len(name) for name in chosen)
    lines = [
        "worldmodel: a world model that imagines and acts, from demonstrations to the robot",
        "",
    ]
    lines += ["usage: worldmodel COMMAND key=value …", "", "commands"]
    lines += [f"  {name:<{width}}  {command.summary}" for name, command in chosen.items()]
    flag_width = max(len(flag) for flag in FLAGS)
    lines += ["", "flags", *(f"  {flag:<{flag_width}}  {text}" for flag, text in FLAGS.items())]
    example = next(iter(chosen))
    lines += [
        "",
        f"Start with `worldmodel demo`; `worldmodel {example} --help` tells more about it.",
    ]
    return "\n".join(lines)


def command_help(name: str, command: Command, config_dir: Path | None = None) -> str:
    """What ``worldmodel <command> --help`` prints: purpose, examples, every key."""
    from worldmodel.build import describe, value_text
    from worldmodel.config import compose, groups_of

    file = name.replace(" ", "_")
    width = max(72, min(shutil.get_terminal_size((100, 24)).columns, 110))
    lines = [f"worldmodel {name}: {command.summary}", ""]
    lines += [*textwrap.wrap(command.details, width), "", "examples"]
    lines += [f"  {example}" for example in command.examples]
    composed = compose(file, [], config_dir)
    choices = groups_of(file, config_dir)
    if choices:
        lines += ["", "pieces"]
        lines += [f"  {group}={'|'.join(options)}" for group, options in choices.items()]
    rows: list[tuple[str, str, str, str]] = []
    for place, cls in load_parts(command).items():
        rows += describe(cls, place.strip())
    if command.writes:
        where = command.out_help
        rows.append(("out", "path", where, "the run's folder"))
    lines += ["", "keys"]
    for key, kind, default, meaning in rows:
        value = _look_up(composed, key)
        default = default if value is None else value_text(value)
        lines.append(f"  {f'{key}={default}' if default else key}  ({kind})")
        lines += textwrap.wrap(
            meaning, width - 6, initial_indent=" " * 6, subsequent_indent=" " * 6
        )
    return "\n".join(lines)


def _look_up(tree: Any, key: str) -> Any:
    for name in key.split("."):
        if not isinstance(tree, dict) or name not in tree:
            return None
        tree = tree[name]
    return tree
