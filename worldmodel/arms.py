"""Arms of an experiment: the same training with other words, from several seeds, measured alike.

Everything is done by the commands that a user would give, each in a process of its own with one
thread, several side by side:

    out/<arm>/seed-<s>/train                   worldmodel train
    out/<arm>/seed-<s>/<updates>/eval          worldmodel eval, at each mark along the training
    out/<arm>/seed-<s>/<updates>/heldout       worldmodel bench heldout

What has a result.json is not done again, so the same command goes on where it was stopped.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from worldmodel.errors import RunError, UserError
from worldmodel.runs import usable_cores


@dataclass(frozen=True)
class ArmsConfig:
    data: Path = field(metadata={"help": "dataset folder, of all arms"})
    holdout: int = field(default=60, metadata={"help": "its last episodes, kept for measuring"})
    arms: tuple[str, ...] = field(
        default=("flow", "dts", "self_flow", "mid"),
        metadata={
            "help": "objectives; with + and words of `worldmodel train`, or policy.… of `worldmodel"
            ' eval`, they differ in more: "self_flow+objective.gamma=0.4+steps=800"'
        },
    )
    seeds: int = field(default=3, metadata={"help": "trainings of each arm, with seed=0, 1, …"})
    steps: int = field(default=1000, metadata={"help": "updates of each training"})
    marks: int = field(default=2, metadata={"help": "how often it is measured on the way"})
    train: tuple[str, ...] = field(default=(), metadata={"help": "further words of every training"})
    eval: tuple[str, ...] = field(
        default=("env=pick_can",), metadata={"help": "words of every evaluation"}
    )
    episodes: int = field(
        default=100, metadata={"help": "episodes of the last evaluation, the same for all; 0: none"}
    )
    along: int = field(default=0, metadata={"help": "episodes at each mark before the last"})
    heldout: tuple[str, ...] = field(
        default=(), metadata={"help": "further words of every `worldmodel bench heldout`"}
    )
    probe: str = field(
        default="pick_can_probe", metadata={"help": "state probe that reads frames ('': none)"}
    )
    parallel: int = field(default=0, metadata={"help": "trainings side by side; 0: one per core"})

    def __post_init__(self) -> None:
        if self.seeds < 1 or min(self.episodes, self.along, self.parallel) < 0:
            raise ValueError(
                f"expected seeds >= 1, episodes, along and parallel >= 0; got {self.seeds}, "
                f"{self.episodes}, {self.along} and {self.parallel}"
            )
        arms = [parse_arm(text, self) for text in self.arms]
        if len({arm.folder for arm in arms}) < len(arms) or not arms:
            raise ValueError(f"arms: got {list(self.arms)}, expected different ones, at least one")


@dataclass(frozen=True)
class Arm:
    name: str  # as it was given
    folder: str  # the same, fit for a folder's name
    train: tuple[str, ...]  # its own words for `worldmodel train`
    eval: tuple[str, ...]  # and for `worldmodel eval`
    marks: tuple[int, ...]  # the updates at which it is measured


def parse_arm(text: str, config: ArmsConfig) -> Arm:
    """``objective+key=value+…``; ValueError for anything else."""
    name, *words = text.split("+")
    if any("=" not in word for word in words):
        raise ValueError(f"arms: got '{text}', expected objective+key=value+…")
    own = dict(word.split("=", 1) for word in words)
    steps = own.pop("steps", str(config.steps))
    if not steps.isdigit() or not 1 <= config.marks <= int(steps):
        raise ValueError(
            f"arms: '{text}': expected steps >= marks >= 1; got {steps} and {config.marks}"
        )
    marks = tuple(round(int(steps) * (i + 1) / config.marks) for i in range(config.marks))
    if marks[-1] % marks[0] or len(set(marks)) < len(marks):
        raise ValueError(f"arms: '{text}': steps={steps} can't be cut into {config.marks} parts")
    train = [f"{k}={v}" for k, v in own.items() if not k.startswith("policy.")]
    acting = [f"{k}={v}" for k, v in own.items() if k.startswith("policy.")]
    train = [f"objective={name}", f"steps={steps}", f"keep_every={marks[0]}", *train]
    folder = re.sub(r"[^\w.-]+", "_", text)
    return Arm(text, folder, tuple(train), tuple(acting), marks)


@dataclass(frozen=True)
class Stage:
    words: tuple[str, ...]  # of worldmodel
    out: Path
    says: str

    @property
    def done(self) -> bool:
        return (self.out / "result.json").exists()


def episodes_at(config: ArmsConfig, arm: Arm, mark: int) -> int:
    """How many episodes are acted out after ``mark`` updates."""
    return config.episodes if mark == arm.marks[-1] else config.along


def place(out: Path, arm: Arm, seed: int, mark: int | None = None) -> Path:
    """The folder of a training, or of what was measured of it after ``mark`` updates."""
    run = out / arm.folder / f"seed-{seed}"
    return run / "train" if mark is None else run / f"{mark:06d}"


def stages(config: ArmsConfig, out: Path) -> Iterator[list[Stage]]:
    """One list per training, whose stages follow one another; all arms of a seed, then the next."""
    for seed in range(config.seeds):
        for arm in (parse_arm(text, config) for text in config.arms):
            who, run = f"{arm.name}, seed {seed}", place(out, arm, seed)
            shared = (f"data='{config.data}'", f"holdout={config.holdout}")
            words = (
                "train",
                *shared,
                "threads=1",
                "settle=0",
                *config.train,
                *arm.train,
                f"seed={seed}",
            )
            todo = [Stage((*words, "resume=true"), run, f"{who}: trained")]
            for mark in arm.marks:
                where, kept = place(out, arm, seed, mark), run / "checkpoints" / f"{mark:06d}"
                after = f"{who}, after {mark}"
                if episodes := episodes_at(config, arm, mark):
                    words = ("eval", f"policy={kept}", "workers=1", "videos=0", *config.eval)
                    words += (*arm.eval, f"episodes={episodes}")
                    todo.append(Stage(words, where / "eval", f"{after}: evaluated"))
                words = ("bench", "heldout", f"checkpoint='{kept}'", *shared, "threads=1")
                words += (f"probe={config.probe or repr('')}", *config.heldout)
                todo.append(Stage(words, where / "heldout", f"{after}: measured"))
            yield todo


def run_stages(
    trainings: list[list[Stage]], parallel: int, on_progress: Callable[[int, str], None]
) -> None:
    """Do what is not done yet. The first command that fails stops the others: RunError with its
    last words. Stopped by Ctrl-C, they save what they have."""
    running: set[subprocess.Popen[bytes]] = set()
    stopping, lock = threading.Event(), threading.Lock()

    def work(todo: list[Stage]) -> None:
        for stage in todo:
            if stopping.is_set():
                return
            if not stage.done:
                stage.out.mkdir(parents=True, exist_ok=True)
                log = stage.out / "log.txt"
                words = [sys.executable, "-m", "worldmodel", *stage.words, f"out='{stage.out}'"]
                with log.open("ab") as file:
                    with lock:
                        child = subprocess.Popen(
                            words, stdout=file, stderr=file, start_new_session=True,
                            env={**os.environ, "OMP_NUM_THREADS": "1"},
                        )  # fmt: skip
                        running.add(child)
                    code = child.wait()
                    running.discard(child)
                if stopping.is_set():
                    return
                if code or not stage.done:
                    last = log.read_text(encoding="utf-8", errors="replace").strip()[-1500:]
                    raise RunError(f"{stage.says}: failed with exit code {code} ({log}):\n{last}")
            on_progress(1, stage.says)

    with ThreadPoolExecutor(parallel or usable_cores()) as pool:
        jobs = [pool.submit(work, todo) for todo in trainings]
        try:
            finished, _ = wait(jobs, return_when=FIRST_EXCEPTION)
            for job in finished:
                job.result()
        finally:  # also on Ctrl-C: a training that is asked to end saves first
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            with lock:
                for child in running:
                    child.terminate()


def check_data(path: Path) -> None:
    """UserError where there is no dataset: better now than in every log."""
    if not (path / "meta" / "info.json").exists():
        raise UserError(f"data: {path} is not a dataset; collect one with `worldmodel collect`")
