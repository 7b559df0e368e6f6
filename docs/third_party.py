"""One row per env of a suite: collect, train, evaluate, imagine, each at a small, stated budget.

    python docs/third_party.py [pendulum ogbench_cube …] [--out runs/third_party]

Suites that need other versions get a virtual environment of their own, made where it is missing.
What is finished is kept: run it again after a stop and it goes on. The table of all finished rows
is printed at the end, and lies in OUT/table.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Home:
    """Where a suite is installed: a folder beside the clone ("": the Python that runs this)."""

    folder: str
    packages: tuple[str, ...]
    module: str


@dataclass(frozen=True)
class Row:
    home: Home
    env: tuple[str, ...]
    episodes: int  # to collect
    updates: int = 400
    acts: tuple[str, ...] = ()  # further words of its evaluation


CLASSIC = Home("", ("pygame>=2.5",), "pygame")
OGBENCH = Home("", ("ogbench==1.2.2",), "ogbench")
METAWORLD = Home(".venv-metaworld", ("metaworld==3.1.1", "packaging", "mujoco==3.3.0"), "metaworld")
ROBOSUITE = Home(
    ".venv-robosuite", ("robosuite==1.5.2", "mujoco==3.9.0", "pyarrow<22"), "robosuite"
)


def metaworld(task: str) -> Row:
    return Row(METAWORLD, ("env=metaworld_reach", f"env.task={task}"), 60)


ROWS = {
    "pendulum": Row(CLASSIC, ("env=pendulum",), 75, 1200, ("policy.replan=2",)),
    "ogbench_cube": Row(OGBENCH, ("env=ogbench_cube",), 30),
    "metaworld_reach": metaworld("reach-v3"),
    "metaworld_drawer_close": metaworld("drawer-close-v3"),
    "metaworld_window_open": metaworld("window-open-v3"),
    "metaworld_push": metaworld("push-v3"),
    "robosuite_lift": Row(ROBOSUITE, ("env=robosuite_lift",), 30),
    "robosuite_can": Row(ROBOSUITE, ("env=robosuite_can",), 30),
}
#: a model that a processor trains in minutes
MODEL = ["model.trunk.width=64", "model.trunk.depth=3", "model.trunk.heads=2"]
TRAIN = ["batch=16", "segment=2", "rehearse=0", "robot_samples=16", "holdout=5"]
OPTIM = ["optim.lr=2e-3", "optim.warmup=50"]
IMAGINE = ["probe=''", "episodes=5", "videos=2"]
STEPS = ("data", "train", "expert", "eval", "rollout")


def call(*words: str) -> None:
    """One command; the script ends where it fails."""
    print(" ".join(words), flush=True)
    done = subprocess.run(words, check=False)
    if done.returncode:
        sys.exit(f"failed with {done.returncode}; run this again to go on")


def python_of(home: Home) -> str:
    """The Python in which the suite is installed, which it is where it was not."""
    python = f"{home.folder}/bin/python" if home.folder else sys.executable
    if not Path(python).exists():
        call(sys.executable, "-m", "venv", home.folder)
    asks = [python, "-c", f"import worldmodel, {home.module}"]
    if subprocess.run(asks, check=False, capture_output=True).returncode:
        call(python, "-m", "pip", "install", "torch==2.13.*", "-e", ".", *home.packages)
    return python


def make(name: str, episodes: int, out: Path) -> None:
    """Collect, train, evaluate and imagine, each unless its result is there."""
    row = ROWS[name]
    place = {step: out / name / step for step in STEPS}
    todo = [step for step in STEPS if not (place[step] / "result.json").exists()]
    if not todo:
        return
    python = python_of(row.home)

    def run(step: str, *words: str) -> None:
        if step in todo:
            call(python, "-m", "worldmodel", *words, f"out={place[step]}")

    run("data", "collect", *row.env, f"episodes={row.episodes}", "workers=1")
    budget = [f"steps={row.updates}", f"validate_every={max(1, row.updates // 2)}"]
    where = [f"data={place['data']}", "resume=true"]
    run("train", "train", *where, *budget, *TRAIN, *MODEL, *OPTIM)
    tries = [*row.env, f"episodes={episodes}", "workers=1"]
    run("expert", "eval", "policy=scripted", *tries)
    run("eval", "eval", f"policy={place['train']}", *tries, *row.acts)
    run("rollout", "rollout", f"checkpoint={place['train']}", *row.env, *IMAGINE)


def table(out: Path) -> str:
    """The finished rows as markdown."""
    lines = [
        "| env | episodes | updates | its expert | the policy | imagined, PSNR [dB]: "
        "demonstrations; a mistaken expert's | the first frame repeated |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in ROWS:
        files = {step: out / name / step / "result.json" for step in STEPS}
        if not all(file.exists() for file in files.values()):
            continue
        r = {step: json.loads(file.read_text(encoding="utf-8")) for step, file in files.items()}
        wins = [_rate(r[who]) for who in ("expert", "eval")]
        kinds = [
            r["rollout"][kind] for kind in ("demonstrations", "mistakes") if kind in r["rollout"]
        ]
        seen = ["; ".join(_interval(kind[what]["psnr"]) for kind in kinds)
                for what in ("imagined", "first frame repeated")]  # fmt: skip
        lines.append(
            f"| {name} | {r['data']['episodes']} | {r['train']['steps']} | {wins[0]} | {wins[1]} | "
            f"{seen[0]} | {seen[1]} |"
        )
    return "\n".join(lines)


def _rate(result: dict[str, Any]) -> str:
    low, high = result["wilson95"]
    return f"{result['success_rate']:.2f} [{low:.2f}, {high:.2f}]"


def _interval(found: list[float]) -> str:
    return f"{found[0]:.1f} [{found[1]:.1f}, {found[2]:.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", help=f"{', '.join(ROWS)}; none: all of them")
    parser.add_argument("--episodes", type=int, default=20, help="episodes of an evaluation")
    parser.add_argument("--out", type=Path, default=Path("runs/third_party"))
    chosen = parser.parse_args()
    for name in chosen.rows:
        if name not in ROWS:
            parser.error(f"unknown row '{name}', expected {', '.join(ROWS)}")
    for name in chosen.rows or ROWS:
        make(name, chosen.episodes, chosen.out)
    found = table(chosen.out)
    (chosen.out / "table.md").write_text(found + "\n", encoding="utf-8")
    print(found)


if __name__ == "__main__":
    main()
