"""The table of the task suite: one model for all eight tasks, beside others at the same compute.

    python docs/suite.py              # the shipped suite_tiny: 10 minutes of one core
    python docs/suite.py --train      # all of it, from collecting on: 6 hours or so (an estimate)

With --train the shipped model's recipe is run anew ("one model"), its first stage is tried by
itself ("plans alone": no frames), and eight models learn one task each, from an eighth of the
demonstrations and updates of that first stage. What is finished is kept: run it again after a stop
and it goes on. The table is printed at the end, and lies in OUT/table.md.

The recipe: plans alone; frames beside them; more plans; twice the demonstrations of what is hard;
and what the model itself gets into when it pushes, with what the expert would do there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from worldmodel.config import compose
from worldmodel.metrics import wilson

TASKS: list[str] = compose("eval", ["env=suite"])["env"]["tasks"]

DATA = ["episodes=1600", "explore=0.2", "mistaken=0"]
ONE_DATA = ["episodes=200", *DATA[1:]]
PLANS = [
    "objective.next_ratio=0", "objective.plans=4", "objective.cut=1", "segment=1", "batch=64",
    "demonstrations=1", "rehearse=0", "robot_samples=0", "optim.lr=6e-4", "compile=true",
]  # fmt: skip
FRAMES = ["objective.next_ratio=0.5", "rehearse_after=0", "compile=true"]
LONG, SHORT = (
    ["optim.warmup=50", "optim.ema=0.995"], ["optim.warmup=20", "optim.ema=0.99"]
)  # fmt: skip
IMAGINES = [
    *FRAMES, "objective.plans=2", "demonstrations=0.7", "rehearse=0.5", "rehearse_steps=24",
    "robot_samples=32", "steps=900", "optim.lr=4e-4",
]  # fmt: skip
HARD = ["push_can", "stack_can", "place_in_drawer", "move_near"]
BOTH = [
    *FRAMES, "objective.plans=4", "objective.cut=0.8", "demonstrations=0.85", "rehearse=0.25",
    "rehearse_steps=16", "robot_samples=16", "segment=2", "batch=32",
]  # fmt: skip


def worldmodel(command: str, out: Path, *words: str) -> Path:
    """One command, unless its result is there; the script ends where it fails."""
    if not (out / "result.json").exists():
        call = [sys.executable, "-m", "worldmodel", command, *words, f"out={out}"]
        print(*call[2:], flush=True)
        if code := subprocess.run(call, check=False).returncode:
            sys.exit(f"failed with {code}; run this again to go on")
    return out


def train(data: Path, out: Path, holdout: int, *words: str) -> Path:
    """A training that goes on where it was stopped."""
    return worldmodel("train", out, f"data={data}", f"holdout={holdout}", "resume=true", *words)


def merged(out: Path, *datasets: Path) -> Path:
    """Several datasets as one."""
    return worldmodel("data", out, "merge", f"sources=[{','.join(map(str, datasets))}]")


def evaluate(policy: Path | str, out: Path, env: str, episodes: int) -> dict[str, Any]:
    """result.json of an evaluation from seed 500,000."""
    words = [f"policy={policy}", f"env={env}", f"episodes={episodes}", "seed=500000"]
    found = worldmodel("eval", out, *words) / "result.json"
    return json.loads(found.read_text(encoding="utf-8"))


def trained(out: Path, episodes: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Columns of the table: name -> task -> its part of result.json."""
    data = worldmodel("collect", out / "data", "env=suite", *DATA)
    acts = train(data, out / "acts", 80, "init=pick_can_tiny", *PLANS, "steps=3000")
    imagines = train(data, out / "imagines", 80, f"init={acts}", *IMAGINES, *LONG)
    both = train(
        data, out / "both", 80, f"init={imagines}", *BOTH, *LONG, "steps=800", "optim.lr=5e-4"
    )
    words = ["env=suite", f"env.only=[{','.join(HARD)}]", "episodes=800", "seed=9000000"]
    hard = worldmodel("collect", out / "data_hard", *words)
    more = merged(out / "data_more", data, hard)
    harder = train(
        more, out / "harder", 80, f"init={both}", *BOTH, *LONG, "steps=1100", "optim.lr=5e-4"
    )
    words = [
        "env=suite",
        "env.only=[push_can]",
        f"student={harder}",
        "episodes=300",
        "seed=9500000",
    ]
    led = worldmodel("collect", out / "data_led", *words)
    last = [*BOTH, *SHORT, "steps=350", "optim.lr=4e-4"]
    suite = train(merged(out / "data_all", more, led), out / "suite", 80, f"init={harder}", *last)
    alone = {}
    for task in TASKS:
        place = out / "one" / task
        few = worldmodel("collect", place / "data", f"env={task}", *ONE_DATA)
        one = train(few, place / "train", 10, "init=pick_can_tiny", *PLANS, "steps=375")
        alone[task] = evaluate(one, place / "eval", task, episodes)
    many = episodes * len(TASKS)
    return {
        "one model": evaluate(suite, out / "eval_suite", "suite", many)["tasks"],
        "plans alone": evaluate(acts, out / "eval_acts", "suite", many)["tasks"],
        "eight models": alone,
    }


def table(columns: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Success and Wilson's 95 % intervals, and how the first column's model fails."""
    first = next(iter(columns.values()))
    lines = [
        f"| task | {' | '.join(columns)} | how the first fails |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for task in sorted(TASKS):
        ends = [f"{n} {how}" for how, n in first[task]["outcomes"].items() if how != "success"]
        cells = [_cell(c[task]["successes"], c[task]["episodes"]) for c in columns.values()]
        lines.append(f"| {task} | {' | '.join(cells)} | {', '.join(ends).replace('_', ' ')} |")
    sums = [
        [sum(t[k] for t in c.values()) for k in ("successes", "episodes")] for c in columns.values()
    ]
    lines.append(f"| all | {' | '.join(_cell(*pair, digits=3) for pair in sums)} | |")
    return "\n".join(lines)


def _cell(wins: int, n: int, digits: int = 2) -> str:
    low, high = wilson(wins, n)
    return f"{wins / n:.{digits}f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", action="store_true", help="collect and train first")
    parser.add_argument("--episodes", type=int, default=100, help="held-out ones of each task")
    parser.add_argument("--out", type=Path, default=Path("runs/suite"))
    chosen = parser.parse_args()
    if chosen.train:
        columns = trained(chosen.out, chosen.episodes)
    else:
        many = chosen.episodes * len(TASKS)
        found = evaluate("suite_tiny", chosen.out / "eval_shipped", "suite", many)
        columns = {"suite_tiny": found["tasks"]}
    found = table(columns)
    (chosen.out / "table.md").write_text(found + "\n", encoding="utf-8")
    print(found)


if __name__ == "__main__":
    main()
