"""One row per suite: collect, train, evaluate, imagine, each at a small, stated budget.

    python docs/third_party.py pendulum [ogbench_cube …] [--steps 400] [--out runs/third_party]

Run it in the environment of the suite (docs/third_party.md). What is finished is kept: it goes
on where it stopped. The table of all finished rows is printed at the end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

#: env= -> episodes to collect; further words of its evaluation
ROWS = {
    "pendulum": (75, []),
    "metaworld_reach": (60, []),
    "ogbench_cube": (30, []),
    "robosuite_lift": (30, []),
    "robosuite_can": (30, []),
}
#: a model that a processor trains in minutes
MODEL = ["model.trunk.width=64", "model.trunk.depth=3", "model.trunk.heads=2"]
TRAIN = ["batch=16", "segment=2", "rehearse=0", "robot_samples=16", "holdout=5"]
OPTIM = ["optim.lr=2e-3", "optim.warmup=50"]
IMAGINE = ["probe=''", "episodes=5", "videos=2"]


def run(*words: str) -> None:
    """One command of worldmodel; the script ends where it fails."""
    print("worldmodel", *words, flush=True)
    done = subprocess.run([sys.executable, "-m", "worldmodel", *words], check=False)
    if done.returncode:
        sys.exit(f"failed with {done.returncode}; run this again to go on")


def row(env: str, steps: int, episodes: int, out: Path) -> None:
    """Collect, train, evaluate and imagine, each unless its result is there."""
    collected, more = ROWS[env]
    place = {name: out / env / name for name in ("data", "train", "expert", "eval", "rollout")}

    def todo(name: str) -> bool:
        return not (place[name] / "result.json").exists()

    on = f"env={env}"
    if todo("data"):
        run("collect", on, f"episodes={collected}", "workers=1", f"out={place['data']}")
    if todo("train"):
        budget = [f"steps={steps}", f"validate_every={max(1, steps // 2)}", *TRAIN, *MODEL, *OPTIM]
        resume = [f"data={place['data']}", f"out={place['train']}", "resume=true"]
        run("train", *resume, *budget)
    tries = [on, f"episodes={episodes}", "workers=1", *more]
    if todo("expert"):
        run("eval", "policy=scripted", *tries, f"out={place['expert']}")
    if todo("eval"):
        run("eval", f"policy={place['train']}", *tries, f"out={place['eval']}")
    if todo("rollout"):
        words = [f"checkpoint={place['train']}", f"out={place['rollout']}"]
        run("rollout", on, *words, *IMAGINE)


def table(out: Path) -> str:
    """The finished rows as markdown."""
    lines = [
        "| env | episodes | updates | expert | policy | PSNR of demonstrations, imagined; first "
        "frame repeated [dB] |",
        "|---|---|---|---|---|---|",
    ]
    for env in ROWS:
        files = {
            n: out / env / n / "result.json" for n in ("data", "train", "expert", "eval", "rollout")
        }
        if not all(file.exists() for file in files.values()):
            continue
        r = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items()}
        wins = []
        for who in ("expert", "eval"):
            low, high = r[who]["wilson95"]
            wins.append(f"{r[who]['success_rate']:.2f} [{low:.2f}, {high:.2f}]")
        seen = r["rollout"]["demonstrations"]
        psnr = [seen[name]["psnr"][0] for name in ("imagined", "first frame repeated")]
        lines.append(
            f"| {env} | {r['data']['episodes']} | {r['train']['steps']} | {wins[0]} | {wins[1]} | "
            f"{psnr[0]:.1f}; {psnr[1]:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("envs", nargs="*", help=f"{', '.join(ROWS)}; none: only the table")
    parser.add_argument("--steps", type=int, default=400, help="updates")
    parser.add_argument("--episodes", type=int, default=20, help="episodes of an evaluation")
    parser.add_argument("--out", type=Path, default=Path("runs/third_party"))
    chosen = parser.parse_args()
    for env in chosen.envs:
        if env not in ROWS:
            parser.error(f"unknown env '{env}', expected {', '.join(ROWS)}")
        row(env, chosen.steps, chosen.episodes, chosen.out)
    print(table(chosen.out))


if __name__ == "__main__":
    main()
