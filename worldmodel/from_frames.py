"""Folders of pictures or films, a folder per episode, with or without a CSV of numbers.

    source/
      episode_000/            any name; sorted, with 2 before 10
        front/0001.png …      a camera: a folder of PNG, JPEG or BMP pictures, sorted likewise
        wrist.mp4             or a film; pictures right in the episode's folder are one camera's
        data.csv              any name; a row per picture, none: a video without actions
        task.txt              what is done there, in words; may be missing

A source with a CSV of its own is one episode. Films right in a source without one are an episode
each.

Columns whose name begins with ``action`` are actions (``action_dx [m]`` is the action dx [m]): the
row's action is taken at the row's picture, that of the last row is not used and may be empty.
``reward`` and ``success`` (0 or 1) belong to the action too. ``timestamp`` [s] gives or confirms
the frequency. Every other column is proprioception, but for counters as ``frame``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from worldmodel import pictures
from worldmodel.errors import UserError
from worldmodel.hdf5 import natural
from worldmodel.takes import Source, Take, Wanted, choose, same_length

FILMS = (".mp4", ".mkv", ".mov", ".avi", ".webm")
COUNTERS = ("frame", "frame_index", "index", "step", "episode", "episode_index")
TIMES = ("timestamp", "time", "timestamp [s]", "time [s]")
SINGLE = "camera"  # the name of a camera that has none


def read_frames(folder: Path, wanted: Wanted) -> Source:
    """Every episode in ``folder``."""
    folders = _episodes(folder)
    takes, times, names, actions, files = [], {}, (), (), []
    for place, found in folders.items():
        take, header, rate = _take(place, found, wanted)
        takes.append(take)
        files += [f for camera in found.values() for f in camera]
        files += sorted([*place.glob("*.csv"), *place.glob("task.txt")])
        names = names or tuple(header["proprio"])
        if header["proprio"] != list(names):
            raise UserError(
                f"proprioception: {place.name} has {header['proprio'] or 'none'}, "
                f"{takes[0].name} has {list(names) or 'none'}; give each episode the same, or "
                "choose with proprio=…"
            )
        actions = actions or tuple(header["action"])
        if header["action"] and header["action"] != list(actions):
            raise UserError(
                f"actions: {place.name} has {header['action']}, another episode {list(actions)}; "
                "give each episode the same"
            )
        if rate:
            times[place.name] = rate
    return Source("frames", takes, names, actions, files, _one_rate(times))


def _episodes(folder: Path) -> dict[Path, dict[str, list[Path]]]:
    """The folder (or film) of each episode -> its cameras; UserError when there is none."""
    inner = sorted((d for d in folder.iterdir() if d.is_dir()), key=lambda d: natural(d.name))
    inner = {d: cameras for d in inner if (cameras := _cameras(d))}
    whole, tables = _cameras(folder), sorted(folder.glob("*.csv"))
    if tables and inner and any(set(cameras) != {SINGLE} for cameras in inner.values()):
        raise UserError(
            f"{folder} has folders of episodes and {tables[0].name} beside them; expected a CSV in "
            "each episode's folder: split it"
        )
    if tables or (SINGLE in whole and not inner):
        return {folder: whole}
    films = [f for files in whole.values() for f in files if f.suffix.lower() in FILMS]
    if not inner and films:
        return {f: {SINGLE: [f]} for f in sorted(films, key=lambda f: natural(f.stem))}
    if not inner:
        raise UserError(f"{folder}: found no pictures and no films\n{__doc__}")
    return inner


def _one_rate(rates: dict[str, float]) -> float | None:
    if not rates:
        return None
    slow, fast = min(rates, key=lambda k: rates[k]), max(rates, key=lambda k: rates[k])
    if rates[fast] > 1.02 * rates[slow]:
        raise UserError(
            f"frequency: {slow} has {rates[slow]:.2f} Hz, {fast} has {rates[fast]:.2f} Hz; one "
            "dataset has one: convert them apart, or bring them to one rate first"
        )
    rate = float(np.median(list(rates.values())))
    return float(round(rate)) if abs(rate - round(rate)) < 0.02 * rate else rate


def _cameras(place: Path) -> dict[str, list[Path]]:
    """Camera -> its pictures, or its film alone."""
    found: dict[str, list[Path]] = {}
    here = _pictures(place)
    if here:
        found[SINGLE] = here
    for entry in sorted(place.iterdir()):
        if entry.is_dir() and (inner := _pictures(entry)):
            found[entry.name] = inner
        elif entry.suffix.lower() in FILMS:
            found[entry.stem] = [entry]
    return found


def _pictures(place: Path) -> list[Path]:
    files = [f for f in place.iterdir() if f.suffix.lower() in pictures.SUFFIXES]
    return sorted((f for f in files if f.name[0] != "."), key=lambda f: natural(f.stem))


def _take(
    place: Path, found: dict[str, list[Path]], wanted: Wanted
) -> tuple[Take, dict[str, list[str]], float | None]:
    """The episode in a folder, its names of numbers, and the rate [Hz] where it tells one."""
    chosen = choose("cameras", wanted.cameras, list(found), str(place))
    films = {c: found[c][0] for c in chosen if found[c][0].suffix.lower() in FILMS}
    shapes = {c: _film(file) for c, file in films.items()}
    lengths = {c: shapes[c][1] if c in films else len(found[c]) for c in chosen}
    sizes = {
        c: shapes[c][0] if c in films else pictures.read_picture(found[c][0]).shape[:2]
        for c in chosen
    }
    rates = {f"{place.name}/{file.name}": shapes[c][2] for c, file in films.items()}
    columns: dict[str, np.ndarray] = {}
    tables = sorted(place.glob("*.csv"))
    if len(tables) > 1:
        raise UserError(f"{place}: {len(tables)} CSV files, expected one: a row per picture")
    if tables:
        columns = _columns(tables[0])
        lengths[tables[0].name] = len(next(iter(columns.values())))
    for name in ("episode", "episode_index"):
        if name in columns and len(np.unique(columns[name])) > 1:
            raise UserError(
                f"{tables[0]} holds {len(np.unique(columns[name]))} episodes; expected a CSV in "
                "each episode's folder: split it"
            )
    count = same_length(lengths, str(place))
    where = str(tables[0]) if tables else str(place)
    acts = [c for c in columns if c.lower().startswith("action")]
    others = {*acts, *TIMES, *COUNTERS, "reward", "success"}
    there = [c for c in columns if c.lower() not in others and c not in others]
    keys = choose("proprio", wanted.proprio, there, where)
    for name in (*acts, "reward", "success"):
        _all_there(columns[name][:-1] if name in columns else np.zeros(0), name, where)
    for name in keys:
        _all_there(columns[name], name, where)
    for name in (n for n in TIMES if n in columns):
        _all_there(columns[name], name, where)
        rates[where] = _rate(columns[name], where, "line")

    def stack(names: list[str], rows: int) -> np.ndarray:
        return np.stack([columns[n][:rows] for n in names], 1).astype(np.float32)

    take = Take(
        place.name, count - 1, {c: (int(h), int(w)) for c, (h, w) in sizes.items()},
        partial(_show, found, count, place),
        stack(keys, count) if keys else np.zeros((count, 0), np.float32),
        stack(acts, count - 1) if acts else None,
        columns.get("reward", np.zeros(count))[:-1].astype(np.float32),
        columns["success"][:-1] > 0.5 if "success" in columns else None,
        task=" ".join((place / "task.txt").read_text("utf-8").split())
        if (place / "task.txt").is_file() else "",
    )  # fmt: skip
    names = [re.sub(r"(?i)^actions?[ ._-]*", "", c) or c for c in acts]
    names = [f"action {n}" if n.isdigit() else n for n in names]
    names = [n if "[" in n else f"{n} [1]" for n in names]
    return take, {"proprio": keys, "action": names}, _one_rate(rates)


def _show(
    found: dict[str, list[Path]], count: int, place: Path, camera: str
) -> Iterator[np.ndarray]:
    files, shown = found[camera], 0
    film = files[0].suffix.lower() in FILMS
    for picture in pictures.read_film(files[0]) if film else map(pictures.read_picture, files):
        if shown == count:
            break
        yield picture
        shown += 1
    if shown < count:
        raise UserError(f"{place}: camera '{camera}' shows {shown} pictures, expected {count}")


def _film(file: Path) -> tuple[tuple[int, int], int, float]:
    """(h, w), pictures and rate [Hz] of a film, without decoding it."""
    import av

    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            packets = [p for p in container.demux(stream) if p.size and p.pts is not None]
            times = sorted(float(p.pts * p.time_base) for p in packets)  # pyright: ignore
            size = stream.codec_context.height, stream.codec_context.width
    except (av.FFmpegError, IndexError) as error:
        raise UserError(f"{file} is no film, or truncated ({error}); copy it again") from error
    return size, len(times), _rate(np.array(times), str(file), "picture") if len(times) > 1 else 0.0


def _columns(file: Path) -> dict[str, np.ndarray]:
    """Every column of numbers, NaN where a cell is empty; UserError for any other cell."""
    with file.open(newline="", encoding="utf-8-sig") as stream:
        rows = [row for row in csv.reader(stream) if row]
    if len(rows) < 3:
        raise UserError(f"{file}: got {len(rows)} lines, expected names and a row per picture")
    header = [name.strip() for name in rows[0]]
    if len(set(header)) < len(header) or not all(header):
        raise UserError(f"{file}: the first line names the columns, each once; got {header}")
    values = np.full((len(rows) - 1, len(header)), np.nan)
    for i, row in enumerate(rows[1:]):
        if len(row) != len(header):
            raise UserError(f"{file}: line {i + 2} has {len(row)} cells, expected {len(header)}")
        for j, cell in enumerate(row):
            try:
                values[i, j] = float(cell) if cell.strip() else np.nan
            except ValueError as error:
                flags = {"true": 1.0, "false": 0.0}
                if cell.strip().lower() not in flags:
                    raise UserError(
                        f"{file}: line {i + 2}, column '{header[j]}': got '{cell}', expected a "
                        "number"
                    ) from error
                values[i, j] = flags[cell.strip().lower()]
    return dict(zip(header, values.T, strict=True))


def _all_there(values: np.ndarray, name: str, where: str) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise UserError(
            f"{where}: column '{name}' is empty or not finite in {bad.size} rows, the first in "
            f"line {bad[0] + 2}; fill it in, or leave out that episode"
        )


def _rate(times: np.ndarray, where: str, what: str) -> float:
    """Steps per second; UserError where times run back or leave the grid by half a step."""
    steps = np.diff(times)
    step = float(np.median(steps))
    if step <= 0:
        raise UserError(f"{where}: timestamps stand still or run backwards; they are in seconds")
    off = np.flatnonzero((steps <= 0) | (np.abs(steps - step) > 0.5 * step))
    if off.size:
        at = off[0] + (3 if what == "line" else 1)  # lines are counted from 1, after the names
        raise UserError(
            f"{where}: {off.size} timestamps leave the grid of {1 / step:.2f} Hz, the first in "
            f"{what} {at}: {steps[off[0]]:.4f} s after the one before, expected {step:.4f} s; "
            "frames were lost, or the rate varies: cut there, or bring it to one rate first"
        )
    return 1 / step
