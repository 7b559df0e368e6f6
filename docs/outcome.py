"""Fit what a checkpoint reads off its outcome token anew, and nothing else.

    python docs/outcome.py --out runs/outcome [--checkpoint pick_can_world] [--episodes 1152]
    python docs/outcome.py --out runs/doubt --fit strayed --episodes 288 --imagined 288

Success and termination are linear in the outcome token, so on a trunk that stays as it is they are
a logistic regression: convex, and fitted in a minute. The scripted expert, the mistaken one and
explorations act in the checkpoint's env, a fifth, three fifths and a fifth of the episodes, half
of them with noise on the actions; the model looks on, and imagines a part of them besides
(``--imagined``), with K = 1 and 2 in turn. Every fifth episode is held out. All else stays bit by
bit as it was.

So is whether what is imagined has strayed: by then the can is elsewhere by more than FAR, as the
state probe reads both pictures, or the fingers are open otherwise by more than APART (a can held
by one and not by the other). For that alone nothing has to be looked on, nor for longer than SOON.
Writes OUT/checkpoint and OUT/result.json, and keeps OUT/parts: what was seen is not seen again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from policies.base import Policy
from worldmodel import checkpoint
from worldmodel.calibration import granted
from worldmodel.env_config import EnvConfig, make_env
from worldmodel.files import write_json
from worldmodel.leaves import OUTCOMES, READINGS
from worldmodel.log import Progress
from worldmodel.metrics import calibration_error, roc_auc
from worldmodel.model import WorldModel
from worldmodel.policy_config import PolicyConfig, make_policy
from worldmodel.probe import StateProbe, load_probe
from worldmodel.recording import Recording, record
from worldmodel.retrace import BATCH, Retraced, dream, watch
from worldmodel.rollout import RolloutConfig, placed
from worldmodel.runs import claim, hardware
from worldmodel.shipped import CHECKPOINTS, find_checkpoint, weights_sha256

SEED = 8_500_000  # of the first episode
STEPS = 100  # of the longest
KINDS = "mistake", "mistake", "mistake", "demonstration", "exploration"  # episode i is i % 5
NOISE = 0.0, 0.1, 0.0, 0.2  # of the experts' actions, in turn; explorations have their own
PART = 3 * BATCH  # episodes that are seen, and kept, together
EVENTS = "success", "terminated", "strayed"
TENSORS = "feature", "read", "event"
FAR, APART = 0.03, 0.02  # m
OPENING, CAN = "gripper_opening [m]", "can"
#: on squared weights of features of unit spread; steps that have strayed are many, and alike
PENALTY = {"success": 1e-4, "terminated": 1e-4, "strayed": 1e-2}
SOON = 60  # steps from the start within which straying is learned: later most has strayed


class Seen(NamedTuple):
    """Episodes as the model saw them, one after another."""

    feature: Tensor  # (steps, D) half, the outcome token
    read: Tensor  # (steps, 5) what was read off it: leaves.READINGS
    event: Tensor  # (steps, 3) bool, what happened: EVENTS
    seeds: list[int]  # of the episodes
    lengths: list[int]  # steps of each
    outcomes: list[str]  # the env's verdict on each


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="pick_can_world", help="folder or shipped name")
    parser.add_argument("--episodes", type=int, default=12 * PART, help=f"a multiple of {PART}")
    parser.add_argument("--imagined", type=int, default=5 * PART, help="so many of them as well")
    parser.add_argument("--fit", nargs="+", default=list(EVENTS), choices=EVENTS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    a = parser.parse_args()
    if a.episodes % PART or a.imagined % PART or not 0 <= a.imagined <= a.episodes:
        parser.error(f"got {a.episodes} and {a.imagined} episodes, expected multiples of {PART}")
    torch.set_num_threads(a.threads)
    found = find_checkpoint(a.checkpoint)
    about = {"checkpoint_sha256": weights_sha256(found), "fit": a.fit}
    claim(a.out / "outcome.json", about, "fit")
    steps, always = (SOON, []) if a.fit == ["strayed"] else (STEPS, ["real"])
    seen: dict[str, list[Seen]] = {}
    total = a.episodes * len(always) + a.imagined
    with Progress("see", total=total, unit="episodes") as bar:
        model = placed(checkpoint.load(found).model, RolloutConfig())
        for first in range(0, a.episodes, PART):
            ways = [*always, *(["imagined"] if first < a.imagined else [])]
            for way, part in look(model, first, ways, steps, a.out / "parts", bar).items():
                seen.setdefault(way, []).append(part)
    whole = {way: joined(parts) for way, parts in seen.items()}
    loaded = checkpoint.load(found)
    before = {way: figures(part, part.read) for way, part in whole.items()}
    fit(loaded.model, whole, a.fit)
    after = {way: figures(part, reread(loaded.model, part)) for way, part in whole.items()}
    fitted = {event: {"episodes": a.episodes, "imagined": a.imagined} for event in a.fit}
    about = {**loaded.about, "outcome": {**loaded.about.get("outcome", {}), **fitted}}
    checkpoint.save(a.out / "checkpoint", loaded.model, about)
    result = {"checkpoint": a.checkpoint, "before": before, "after": after}
    write_json(a.out / "result.json", result | {"hardware": hardware()})
    for way in whole:
        print(way, "before", before[way])
        print(way, "after", after[way])


def look(
    model: WorldModel, first: int, ways: list[str], steps: int, folder: Path, bar: Progress
) -> dict[str, Seen]:
    """Up to ``steps`` of the episodes from ``first`` on, as they were or as they are imagined."""
    files = {way: folder / f"{way}_{first:05d}.safetensors" for way in ways}
    if all(file.exists() for file in files.values()):
        bar.advance(PART * len(ways), "from before")
        return {way: kept(file) for way, file in files.items()}
    env = make_env(EnvConfig(model.spec.env, options=dict(model.spec.env_options)))

    def actor(kind: str, noise: float) -> Policy:
        noise = 0.0 if kind == "exploration" else noise
        return make_policy(PolicyConfig(mistaken=kind == "mistake", noise=noise), env)

    actors = {(kind, noise): actor(kind, noise) for kind in KINDS for noise in NOISE}
    probe = load_probe(CHECKPOINTS / "pick_can_probe")[0]
    recordings = []
    for i in range(first, first + PART):
        kind, noise = KINDS[i % len(KINDS)], NOISE[i // len(KINDS) % len(NOISE)]
        explore = kind == "exploration"
        recordings.append(record(env, actors[kind, noise], model.spec, SEED + i, explore, steps))
        bar.advance(0, f"acted out {i - first + 1} of {PART}")
    env.close()
    found = {}
    for way, file in files.items():
        found[way] = retraced(model, probe, recordings, way, bar)
        row = found[way]._asdict()
        tensors = {name: row.pop(name) for name in TENSORS}
        checkpoint.write_tensors(file, tensors, {"format": checkpoint.FORMAT, **row})
    return found


def kept(file: Path) -> Seen:
    """What :func:`look` wrote there."""
    tensors, header = checkpoint.read_tensors(file)
    lists = {name: header[name] for name in ("seeds", "lengths", "outcomes")}
    return Seen(**tensors, **lists)


def joined(parts: list[Seen]) -> Seen:
    """All of these as one."""
    return Seen(
        torch.cat([part.feature for part in parts]),
        torch.cat([part.read for part in parts]),
        torch.cat([part.event for part in parts]),
        [seed for part in parts for seed in part.seeds],
        [length for part in parts for length in part.lengths],
        [outcome for part in parts for outcome in part.outcomes],
    )


def retraced(
    model: WorldModel, probe: StateProbe, recordings: list[Recording], way: str, bar: Progress
) -> Seen:
    """What the outcome token is at every step of them, and what became of it."""
    tokens: list[Tensor] = []
    hook = model.read_outcome.register_forward_hook(
        lambda module, inputs, output: tokens.append(inputs[0].float().cpu())
    )
    found, opening = [], model.spec.proprio_names.index(OPENING)
    order = sorted(recordings, key=len)  # alike in length
    for at in range(0, len(order), BATCH):
        part = order[at : at + BATCH]
        tokens.clear()
        if way == "real":
            traced = watch(model, part, lambda n: bar.advance(n, way))
        else:
            sampler = RolloutConfig(flow_steps=1 + at // BATCH % 2)
            traced = dream(model, part, sampler, SEED + at, lambda n: bar.advance(n, way))
        whole = torch.stack(tokens, dim=1).half()  # (B, T, D)
        for feature, r, t in zip(whole, part, traced, strict=True):
            lost = np.zeros(len(r), bool)
            if way == "imagined":
                lost = strayed(probe, opening, r, t)
            event = np.stack([r.success, r.terminated, lost], axis=1)
            read, event = torch.from_numpy(t.outcomes), torch.from_numpy(event)
            found.append(Seen(feature[: len(r)], read, event, [r.seed], [len(r)], [r.outcome]))
    hook.remove()
    return joined(found)


def held_out(seen: Seen) -> Tensor:
    """(steps,) bool: of every fifth episode of each kind."""
    away = torch.tensor([(seed - SEED) // len(KINDS) % 5 == 4 for seed in seen.seeds])
    return away.repeat_interleave(torch.tensor(seen.lengths))


def early(seen: Seen) -> Tensor:
    """(steps,) bool: among the first SOON of its episode."""
    return torch.cat([torch.arange(length) < SOON for length in seen.lengths])


def strayed(
    probe: StateProbe, opening: int, real: Recording, imagined: Retraced
) -> np.ndarray:  # fmt: skip
    """(T,) bool: at o_1 … o_T the can is elsewhere, or the fingers are, which entry ``opening`` of
    proprioception tells."""
    here, there = (probe.read(x)[CAN] for x in (real.images[1:], imagined.images))
    apart = np.abs(real.proprio[1:, opening] - imagined.proprio[:, opening])
    return (np.linalg.norm(here - there, axis=1) > FAR) | (apart > APART)


def fit(model: WorldModel, seen: dict[str, Seen], events: Sequence[str]) -> None:
    """What the model reads of these events, by logistic regression; each way of seeing weighs by
    its steps, and only what is imagined strays."""
    for name in events:
        parts = [seen["imagined"]] if name == "strayed" else list(seen.values())
        known = [~held_out(part) & (early(part) if name == "strayed" else True) for part in parts]
        feature = torch.cat([part.feature[k] for part, k in zip(parts, known, strict=True)])
        event = torch.cat([part.event[k] for part, k in zip(parts, known, strict=True)])
        event = event[:, EVENTS.index(name)].double()
        weight, bias = logistic(feature.double(), event, PENALTY[name])
        if name == "strayed":
            model.doubt.copy_(torch.cat([weight, bias[None]]))
        else:
            row = OUTCOMES.index(name)
            model.read_outcome.weight.data[row] = weight
            model.read_outcome.bias.data[row] = bias


def logistic(feature: Tensor, event: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Weight (D,) and bias () by which features (n, D) tell events (n,)."""
    mean, spread = feature.mean(0), feature.std(0) + 1e-3
    feature = (feature - mean) / spread
    weight = torch.zeros(feature.shape[1] + 1, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=500, line_search_fn="strong_wolfe")

    def wrong() -> Tensor:
        optimizer.zero_grad()
        out = feature @ weight[:-1] + weight[-1]
        loss = F.binary_cross_entropy_with_logits(out, event)
        loss = loss + penalty * weight[:-1].square().sum()
        loss.backward()
        return loss

    optimizer.step(wrong)
    found = weight.detach()
    bias = found[-1] - (found[:-1] * mean / spread).sum()
    return (found[:-1] / spread).float(), bias.float()


def reread(model: WorldModel, seen: Seen) -> Tensor:
    """(steps, 5) like ``seen.read``, with EVENTS as the model reads them now."""
    token = seen.feature.float()
    read, out = seen.read.clone(), model.read_outcome(token).sigmoid()
    for name in ("success", "terminated"):
        read[:, OUTCOMES.index(name)] = out[:, OUTCOMES.index(name)]
    if seen.event[:, EVENTS.index("strayed")].any():  # real frames never do
        doubt = token @ model.doubt[:-1] + model.doubt[-1]
        read[:, READINGS.index("strayed")] = doubt.sigmoid()
    return read


def figures(seen: Seen, read: Tensor) -> dict[str, Any]:
    """Of the held-out episodes: ROC-AUC, calibration error and cross-entropy of success at a step,
    and of how many of each outcome it is granted: (granted, episodes)."""
    away = held_out(seen)
    chance, success = read[away, 0].numpy(), seen.event[away, 0]
    entropy = F.binary_cross_entropy(read[away, 0].clamp(1e-6, 1 - 1e-6), success.float())
    counts: dict[str, list[int]] = {}
    episodes = zip(read.split(seen.lengths), away.split(seen.lengths), seen.outcomes, strict=True)
    for rows, mine, outcome in episodes:
        if mine[0]:
            count = counts.setdefault(outcome, [0, 0])
            count[0] += granted(rows.numpy())
            count[1] += 1
    soon = away & early(seen)
    doubt, lost = read[soon, -1].numpy(), seen.event[soon, EVENTS.index("strayed")].numpy()
    return {
        "auc": roc_auc(chance, success.numpy()),
        "calibration_error": calibration_error(chance, success.numpy()),
        "cross_entropy": float(entropy),
        "strayed": float(lost.mean()),
        "strayed_auc": roc_auc(doubt, lost) if lost.any() else None,
        "strayed_calibration_error": calibration_error(doubt, lost),
        "granted": counts,
    }


if __name__ == "__main__":
    main()
