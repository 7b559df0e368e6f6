"""Frozen dataclasses from plain values, with errors in the words of whoever wrote the values."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from worldmodel.errors import UserError

T = TypeVar("T")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` with the nearest known word, or nothing when none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""


def build(cls: type[T], values: Mapping[str, object], path: str = "") -> T:
    """A (nested) dataclass ``cls`` from plain values; ``path`` is where they stand in the config.

    A field whose metadata has ``rest=True`` (a dict) collects the keys that ``cls`` doesn't name.
    Raises UserError for an unknown or missing key, a wrong type, a value that is not among a
    Literal's choices, and for whatever ValueError the dataclass itself raises.
    """
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, cls)) if f.init}
    rest = next((name for name, f in fields.items() if f.metadata.get("rest")), None)
    hints = typing.get_type_hints(cls)
    arguments: dict[str, object] = {}
    extra: dict[str, object] = {}
    for key, value in values.items():
        here = _join(path, key)
        if key in fields:
            arguments[key] = _convert(hints[key], value, here)
        elif rest:
            extra[key] = value
        else:
            known = ", ".join(sorted(fields)) or "none"
            raise UserError(
                f"unknown key '{here}'{did_you_mean(key, fields)}\n  known keys: {known}"
            )
    if rest and extra:
        arguments[rest] = {**typing.cast("dict[str, object]", arguments.get(rest, {})), **extra}
    for name, f in fields.items():
        if name not in arguments and not _has_default(f):
            raise UserError(f"'{_join(path, name)}' is needed: add {_join(path, name)}=…")
    try:
        return cls(**arguments)
    except ValueError as error:
        raise UserError(f"{path}: {error}" if path else str(error)) from error


def _has_default(f: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return f.default is not missing or f.default_factory is not missing


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def type_name(hint: Any) -> str:
    """A type as a user would say it: ``int``, ``a|b|c``, ``list of str``, ``str or none``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is type(None):
        return "none"
    if origin is Literal:
        return "|".join(str(choice) for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(a) for a in arguments)
    if origin is list or (origin is tuple and arguments[-1:] == (...,)):
        return f"list of {type_name(arguments[0])}"
    if origin is tuple:
        return f"[{', '.join(type_name(a) for a in arguments)}]"
    if origin is not None and issubclass(origin, Mapping):
        return "key: value pairs"
    if hint is Path:
        return "path"
    return getattr(hint, "__name__", str(hint))


def _convert(hint: Any, value: object, path: str) -> object:
    """``value`` as the annotation ``hint`` wants it, or UserError."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or hint is object:
        return value
    if origin in (typing.Union, types.UnionType):
        for arm in arguments:  # an exact match first, so that 3 stays an int in `float | int`
            if isinstance(arm, type) and type(value) is arm:
                return value
        for arm in arguments:
            try:
                return _convert(arm, value, path)
            except UserError as error:
                if dataclasses.is_dataclass(arm) and isinstance(value, Mapping):
                    raise error
        raise _mismatch(hint, value, path)
    if origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
        hint_text = did_you_mean(str(value), [str(a) for a in arguments])
        raise UserError(f"{path}: expected {type_name(hint)}, got '{value}'{hint_text}")
    if origin in (tuple, list):
        return _convert_sequence(hint, value, path)
    if (origin is not None and issubclass(origin, Mapping)) or hint is dict:
        if isinstance(value, Mapping):
            item = arguments[1] if arguments else Any
            return {str(k): _convert(item, v, _join(path, str(k))) for k, v in value.items()}
        raise _mismatch(hint, value, path)
    if dataclasses.is_dataclass(hint):
        if isinstance(value, Mapping):
            return build(typing.cast(type, hint), value, path)
        raise UserError(
            f"{path}: expected keys of {type_name(hint)} (as {path}.key=value), got '{value}'"
        )
    return _convert_scalar(hint, value, path)


def _convert_sequence(hint: Any, value: object, path: str) -> object:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    variadic = origin is list or arguments[-1:] == (...,)
    if variadic and isinstance(value, str | int | float):
        value = [value]  # data=a means data=[a]
    if not isinstance(value, list | tuple) or (not variadic and len(value) != len(arguments)):
        raise _mismatch(hint, value, path)
    items = [arguments[0]] * len(value) if variadic else arguments
    pairs = zip(items, value, strict=True)
    return origin(_convert(item, v, f"{path}[{i}]") for i, (item, v) in enumerate(pairs))


def _convert_scalar(hint: Any, value: object, path: str) -> object:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is float and number:
        return float(typing.cast(float, value))
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)  # steps=1e4
    if hint is str and number:
        return str(value)  # a folder named 2026
    if hint is Path and isinstance(value, str):
        return Path(value).expanduser()
    if isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    raise _mismatch(hint, value, path)


def _mismatch(hint: Any, value: object, path: str) -> UserError:
    return UserError(f"{path}: expected {type_name(hint)}, got {value!r} ({type(value).__name__})")


def build_parts(parts: Mapping[str, type], values: Mapping[str, object]) -> dict[str, Any]:
    """Several dataclasses from one tree: each from its own key, those at the root share the rest.

    A place is a key of ``values``; blank ones ("", " ") are the root.
    """
    at_root = {place: cls for place, cls in parts.items() if not place.strip()}
    root = {k: v for k, v in values.items() if k not in parts}
    names = {place: {f.name for f in dataclasses.fields(cls)} for place, cls in at_root.items()}
    known = set().union(*names.values(), {place for place in parts if place.strip()}, {"out"})
    for key in root:
        if not any(key in owned for owned in names.values()):
            raise UserError(
                f"unknown key '{key}'{did_you_mean(key, known)}\n"
                f"  known keys: {', '.join(sorted(known))}"
            )
    built: dict[str, Any] = {}
    for place, cls in parts.items():
        if place in at_root:
            built[place] = build(cls, {k: v for k, v in root.items() if k in names[place]})
        else:
            own = values.get(place, {})
            if not isinstance(own, Mapping):
                raise UserError(f"{place}: expected keys, as {place}.key=value, got '{own}'")
            built[place] = build(cls, own, place)
    return built


def describe(cls: type, path: str = "") -> list[tuple[str, str, str, str]]:
    """(key, type, default, meaning) of every field of ``cls``, nested ones as ``path.key``."""
    rows: list[tuple[str, str, str, str]] = []
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        if not f.init:
            continue
        key, meaning = _join(path, f.name), str(f.metadata.get("help", ""))
        if dataclasses.is_dataclass(hints[f.name]):
            rows += describe(typing.cast(type, hints[f.name]), key)
        elif f.metadata.get("rest"):
            rows.append((_join(path, "…"), "any", "", meaning))
        else:
            rows.append((key, type_name(hints[f.name]), _default_text(f), meaning))
    return rows


def _default_text(f: dataclasses.Field[Any]) -> str:
    if f.default is not dataclasses.MISSING:
        return value_text(f.default)
    if f.default_factory is not dataclasses.MISSING:
        return value_text(f.default_factory())
    return "needed"


def value_text(value: object) -> str:
    """A value as it is written on the command line."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(value_text(v) for v in value)}]"
    return str(value) if str(value) else "''"


def plain(value: object) -> Any:
    """Dataclasses, tuples and paths as dicts, lists and strings: what yaml and json can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
