"""What a long run says while it works, and the numbers it leaves behind."""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from worldmodel.errors import UserError
from worldmodel.files import atomic


class Progress:
    """A bar on a terminal, otherwise a plain line now and then; both with rate and time left.

    with progress("collect", total=500) as bar:
        bar.advance(1, text="success 0.98")
    """

    def __init__(
        self,
        name: str,
        total: int,
        *,
        done: int = 0,
        unit: str = "",
        every: float = 10.0,
        stream: TextIO | None = None,
        quiet: bool = False,
    ) -> None:
        """``done`` of ``total`` were finished by an earlier run; ``every`` [s] a plain line;
        ``quiet`` says nothing."""
        self.name, self.total, self.done, self.unit = name, total, done, unit
        self._first, self._every, self._text = done, every, ""
        self._stream = stream if stream is not None else sys.stderr
        self._quiet = quiet
        self._bar: Any = None
        self._start = self._last = time.monotonic()

    def __enter__(self) -> Progress:
        self._start = self._last = time.monotonic()
        if self._stream.isatty() and not self._quiet:
            self._bar = _rich_bar(self._stream)
            self._task = self._bar.add_task(
                self.name, total=self.total, completed=self.done, text="", rate=""
            )
            self._bar.start()
        else:
            start = f", going on from {self.done}" if self.done else ""
            self._print(f"{self.name}: {self.total} {self.unit}".rstrip() + start)
        return self

    def advance(self, n: int = 1, text: str | None = None) -> None:
        """Count ``n`` more as done; ``text`` stands behind the bar until the next one."""
        self.done += n
        if text is not None:
            self._text = text
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, text=self._text, rate=self._rate(now))
        elif now - self._last >= self._every:
            self._last = now
            self._print(self._line(now))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        else:
            self._print(self._line(time.monotonic()))

    def _rate(self, now: float) -> str:
        rate = (self.done - self._first) / max(now - self._start, 1e-9)
        unit = f" {self.unit}" if self.unit else ""
        return f"{rate:.3g}{unit}/s" if rate >= 0.1 else f"{60 * rate:.3g}{unit}/min"

    def _line(self, now: float) -> str:
        spent, fresh = now - self._start, self.done - self._first
        share = 100 * self.done / max(self.total, 1)
        parts = [f"{self.name} {self.done}/{self.total} ({share:.0f}%)", self._rate(now)]
        parts.append(duration(spent))
        if fresh and self.done < self.total:
            parts.append(f"{duration(spent / fresh * (self.total - self.done))} left")
        return "  ".join(p for p in [*parts, self._text] if p)

    def _print(self, line: str) -> None:
        if not self._quiet:
            print(line, file=self._stream, flush=True)


progress = Progress


def _rich_bar(stream: TextIO) -> Any:
    """Rich's bar; imported here because most runs of the tests and all workers don't need it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
        console=Console(file=stream),
    )


def duration(seconds: float) -> str:
    """``75`` as ``1:15``, ``3725`` as ``1:02:05``."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class MetricLog:
    """Numbers by step, in ``metrics.jsonl`` and ``metrics.csv``, line by line.

    A kill loses at most the line being written. ``resume_step`` drops what an earlier run wrote
    after that step, so that a resumed run doesn't write it twice; without it the log starts anew.
    ``tensorboard`` writes the same numbers for TensorBoard into ``folder/tensorboard``.
    """

    def __init__(
        self, folder: Path, resume_step: int | None = None, tensorboard: bool = False
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._board = _tensorboard(folder, resume_step) if tensorboard else None
        self._jsonl, self._csv = folder / "metrics.jsonl", folder / "metrics.csv"
        rows = [] if resume_step is None else read_metrics(folder)
        rows = [row for row in rows if row["step"] <= (resume_step or 0)]
        with atomic(self._jsonl) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self._columns = list(dict.fromkeys(["step", *(key for row in rows for key in row)]))
        self._rewrite_csv(rows)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line; keys that were not there before become new columns."""
        row = {"step": int(step), **{key: float(value) for key, value in values.items()}}
        with self._jsonl.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self._board is not None:
            for key, value in values.items():
                self._board.add_scalar(key, float(value), step)
            self._board.flush()
        new = [key for key in row if key not in self._columns]
        if new:
            self._columns += new
            self._rewrite_csv(read_metrics(self._jsonl.parent))
            return
        with self._csv.open("a", encoding="utf-8", newline="") as file:
            file.write(self._csv_line(row))

    def _rewrite_csv(self, rows: list[dict[str, float]]) -> None:
        header = self._csv_line({c: c for c in self._columns})
        with atomic(self._csv) as temporary:
            temporary.write_text(
                header + "".join(self._csv_line(row) for row in rows), encoding="utf-8"
            )

    def _csv_line(self, row: Mapping[str, object]) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow([row.get(c, "") for c in self._columns])
        return text.getvalue()


def _tensorboard(folder: Path, resume_step: int | None) -> Any:
    """TensorBoard's writer; UserError when the extra [log] is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(
            "tensorboard=true needs the extra [log]: pip install 'worldmodel[log]'"
        ) from error
    purge = None if resume_step is None else resume_step + 1
    return SummaryWriter(str(folder / "tensorboard"), purge_step=purge)


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """The rows of ``metrics.jsonl``; a half-written last line is left out."""
    file = folder / "metrics.jsonl"
    rows: list[dict[str, float]] = []
    if not file.exists():
        return rows
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break  # the line that a kill cut off
    return rows
