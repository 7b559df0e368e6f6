"""Checks of what a user passes to an environment; every message says what would be right."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

MIN_PIXELS, MAX_PIXELS = 16, 1024


def one_of(name: str, value: object, allowed: Sequence[str]) -> str:
    """`value` if it is allowed, else a `ValueError` that names the allowed values."""
    if isinstance(value, str) and value in allowed:
        return value
    close = get_close_matches(str(value), allowed, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"got {name}={value!r}, expected one of {', '.join(allowed)}{hint}")


def some_of(name: str, values: Sequence[str], allowed: Sequence[str]) -> tuple[str, ...]:
    """The values as a tuple without repeats; a single string counts as one value."""
    listed = (values,) if isinstance(values, str) else tuple(dict.fromkeys(values))
    return tuple(one_of(name, value, allowed) for value in listed)


def picture_size(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    """(h, w) in pixels from one number or a pair."""
    pair = [value, value] if isinstance(value, int) else list(value)
    if len(pair) != 2 or not all(int(n) == n and MIN_PIXELS <= n <= MAX_PIXELS for n in pair):
        raise ValueError(
            f"got {name}={value!r}, expected one whole number or (height, width), each from "
            f"{MIN_PIXELS} to {MAX_PIXELS} pixels"
        )
    return int(pair[0]), int(pair[1])


def positive(name: str, value: float) -> float:
    """`value` if it is a finite number above zero."""
    if not 0.0 < value < float("inf"):
        raise ValueError(f"got {name}={value!r}, expected a number above 0")
    return value
