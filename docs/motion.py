"""Train what a checkpoint knows of the robot's own motion on, and nothing else.

    python docs/motion.py --out runs/motion [--checkpoint pick_can_world] [--episodes 4000]

What the robot does by itself is learned from its own numbers (`WorldModel.motion`), so it takes no
pictures: the scripted expert, the mistaken one and explorations act without any, a quarter, a
quarter and half of the episodes, in the checkpoint's env. All else stays bit by bit as it was.
Writes OUT/checkpoint, OUT/result.json (how far off the gripper is when the motion goes on from
itself for a whole held-out episode, before and after), and keeps OUT/*.safetensors: what was acted
out is not acted out again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel import checkpoint
from worldmodel.collect import CollectConfig
from worldmodel.demonstrate import executor
from worldmodel.env_config import EnvConfig, make_env
from worldmodel.files import write_json
from worldmodel.log import Progress
from worldmodel.metrics import median_interval
from worldmodel.model import WorldModel
from worldmodel.objective import motion_loss
from worldmodel.optim import OptimConfig, adamw, learning_rate
from worldmodel.policy_config import PolicyConfig, make_policy
from worldmodel.runs import hardware
from worldmodel.shipped import find_checkpoint

SEED, TEST_SEED = 9_000_000, 9_900_000  # of the first episode
STEPS = 100  # of the longest episode
STRETCH = 16  # steps that the motion goes on from itself while it is learned
BATCH = 256
KINDS = (
    "demonstrations",
    "mistakes",
    "explorations",
    "explorations",
)  # episode i is of KINDS[i % 4]
MARKS = (1, 10, 30, 90)  # steps after which the error is told
OPTIM = OptimConfig(lr=1e-3, weight_decay=0.0)

NAMES = "proprio", "action"
Move = tuple[np.ndarray, np.ndarray]  # proprio (T + 1, P), executed actions (T, A)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="pick_can_world", help="folder or shipped name")
    parser.add_argument("--episodes", type=int, default=4000, help="to learn from")
    parser.add_argument("--tests", type=int, default=200, help="held-out ones")
    parser.add_argument("--updates", type=int, default=8000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    loaded = checkpoint.load(find_checkpoint(a.checkpoint))
    model, about = loaded.model, loaded.about
    with Progress("act", total=a.episodes + a.tests, unit="episodes") as bar:
        learned = acted_out(model, SEED, a.episodes, a.out / "moves.safetensors", bar)
        tests = acted_out(model, TEST_SEED, a.tests, a.out / "tests.safetensors", bar)
    result: dict[str, Any] = {"checkpoint": a.checkpoint, "episodes": a.episodes, "tests": a.tests}
    result |= {"updates": a.updates, "before": errors(model, tests)}
    with Progress("learn", total=a.updates, unit="updates") as bar:
        learn(model, learned, a.updates, bar)
    result |= {"after": errors(model, tests), "hardware": hardware()}
    about = {**about, "motion": {"episodes": a.episodes, "updates": a.updates}}
    checkpoint.save(a.out / "checkpoint", model.eval(), about)
    write_json(a.out / "result.json", result)
    for kind in sorted(set(KINDS)):
        for when in ("before", "after"):
            print(kind, when, {k: round(v[0], 1) for k, v in result[when][kind].items()})


def acted_out(model: WorldModel, seed: int, episodes: int, file: Path, bar: Progress) -> list[Move]:
    """The episodes from this seed on; those in ``file`` are taken from there."""
    kept: list[Move] = []
    if file.exists():
        tensors, header = checkpoint.read_tensors(file)
        parts = (tensors[n].numpy() for n in NAMES)
        lengths = np.array(header["lengths"])
        cuts = (np.cumsum(lengths + extra)[:-1] for extra in (1, 0))
        both = (np.split(part, cut) for part, cut in zip(parts, cuts, strict=True))
        kept = list(zip(*both, strict=True))
        bar.advance(min(len(kept), episodes), "from before")
    env = make_env(EnvConfig(model.spec.env, options={**model.spec.env_options, "cameras": ()}))
    actors = [
        make_policy(PolicyConfig(name="scripted", mistaken=kind == "mistakes"), env)
        for kind in KINDS
    ]
    for i in range(len(kept), episodes):
        k = i % len(KINDS)
        obs, _ = env.reset(seed=seed + i)
        actors[k].reset([seed + i])
        execute = executor(model.spec, seed + i, CollectConfig(), KINDS[k] == "explorations")
        seen, done, over = [obs["proprio"]], [], False
        while not over and len(done) < STEPS:
            wanted = actors[k].act({name: np.asarray(x)[None] for name, x in obs.items()})[0]
            done.append(execute(np.clip(wanted, -1.0, 1.0).astype(np.float32), len(done)))
            obs, _, terminated, truncated, _ = env.step(done[-1])
            seen.append(obs["proprio"])
            over = terminated or truncated
        kept.append((np.stack(seen), np.stack(done)))
        bar.advance(1, KINDS[k])
        if (i + 1) % 500 == 0 or i + 1 == episodes:
            whole = (torch.from_numpy(np.concatenate(part)) for part in zip(*kept, strict=True))
            header = {"format": checkpoint.FORMAT, "lengths": [len(m[1]) for m in kept]}
            checkpoint.write_tensors(file, dict(zip(NAMES, whole, strict=True)), header)
    env.close()
    return kept[:episodes]


def learn(model: WorldModel, moves: list[Move], updates: int, bar: Progress) -> None:
    """Train ``model.motion`` on stretches of them, every step as likely as any other."""
    moves = [m for m in moves if len(m[1]) >= STRETCH]
    proprio, action = (torch.from_numpy(np.concatenate([m[i] for m in moves])) for i in (0, 1))
    lengths = np.array([len(m[1]) for m in moves])
    first = np.cumsum([0, *(lengths + 1)])[:-1]  # in `proprio`; `action` has one less of each
    acts = np.cumsum([0, *lengths])[:-1]
    room = lengths - STRETCH + 1
    ends, rng = np.cumsum(room), np.random.default_rng(0)
    model.motion.requires_grad_(True).train()
    optimizer = adamw([model.motion], OPTIM)
    for step in range(updates):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, updates, OPTIM)
        place = rng.integers(0, ends[-1], BATCH)
        which = np.searchsorted(ends, place, side="right")
        start = place - (ends - room)[which]
        rows = (first[which] + start)[:, None] + np.arange(STRETCH + 1)
        loss = motion_loss(
            model, proprio[rows], action[(acts[which] + start)[:, None] + np.arange(STRETCH)]
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.motion.parameters(), OPTIM.clip)
        optimizer.step()
        bar.advance(1, f"loss {loss.item():.4f}")
    model.requires_grad_(False)


@torch.no_grad()
def errors(model: WorldModel, moves: list[Move]) -> dict[str, dict[str, list[float]]]:
    """How far off the gripper is [mm] after so many steps of going on from itself, and over whole
    episodes; medians with their 95 % intervals, by kind."""
    wrong = [_drift(model, *map(torch.from_numpy, move)) for move in moves]
    found = {}
    for kind in sorted(set(KINDS)):
        mine = [w for i, w in enumerate(wrong) if KINDS[i % len(KINDS)] == kind]
        rows = {f"step {n}": [w[n - 1] for w in mine if len(w) >= n] for n in MARKS}
        rows["whole"] = [float(np.median(w)) for w in mine]
        found[kind] = {k: median_interval(np.array(v)) for k, v in rows.items() if len(v) >= 5}
    return found


def _drift(model: WorldModel, proprio: Tensor, action: Tensor) -> np.ndarray:
    """(T,) distances in mm."""
    pose, places = model.proprio_scale(proprio[:1]), []
    for a in model.action_scale(action):
        _, pose = model.expect_pose(torch.cat([pose, a[None]], dim=-1))
        places.append(model.proprio_scale.inverse(pose)[0, :3])
    return 1000 * (torch.stack(places) - proprio[1:, :3]).norm(dim=-1).numpy()


if __name__ == "__main__":
    main()
