"""Do the successes that a policy is granted inside the model come true?

    python docs/claims.py --policies runs/train/few pick_can_tiny+0.1 --films runs/claims

Each policy acts inside the model, on what it imagines, from the starts of so many episodes. What it
did there in an episode that is read as a success is then done in MuJoCo, from the same start, step
by step, and the hand held still for a moment. Prints how many are granted and how many of them come
true (Wilson 95 %); how well those that don't are told (ROC-AUC) by how far the can is moved before
it is held, as the state probe reads the imagined pictures (worldmodel/steady.py); and how many are
left, and come true, of those in which it is moved by no more than ``--still``. With ``--films`` the
first that don't come true are shown: imagined above, real below.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np
import torch
from einops import rearrange

from worldmodel import checkpoint
from worldmodel.env_config import EnvConfig, make_env
from worldmodel.imagined_episodes import ImaginedEpisode, play
from worldmodel.judge_jobs import policy_of
from worldmodel.log import Progress
from worldmodel.metrics import roc_auc, wilson
from worldmodel.model import WorldModel
from worldmodel.policy_config import make_policy
from worldmodel.probe import StateProbe, load_probe
from worldmodel.recording import Recording, replay
from worldmodel.rollout import RolloutConfig, placed
from worldmodel.runs import hardware
from worldmodel.shipped import CHECKPOINTS, find_checkpoint
from worldmodel.spec import DataSpec
from worldmodel.starts import starts_from
from worldmodel.steady import moved
from worldmodel.trials import Actor
from worldmodel.video import side_by_side, upscale, write_mp4

AFTER = 8  # steps for which the hand stays where it is at the end
FILMS = 8
COLUMNS = (
    "policy",
    "granted",
    "come true",
    "told by how far the can is moved",
    "left where it is moved no more",
    "come true of those",
)


class Claim(NamedTuple):
    """A success that was granted inside."""

    true: bool
    moved: float  # m
    imagined: np.ndarray  # uint8 (T + 1, C, h, w, 3)
    real: np.ndarray  # the same


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policies", nargs="+", required=True, help="as of `worldmodel judge`")
    parser.add_argument("--checkpoint", default="pick_can_world", help="folder or shipped name")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=8_700_000, help="of the first episode")
    parser.add_argument("--max-steps", type=int, default=60)
    parser.add_argument("--flow-steps", type=int, default=1, help="K")
    parser.add_argument("--still", type=float, default=0.012, help="m")
    parser.add_argument("--trusting", action="store_true", help="do without the model's doubt")
    parser.add_argument("--films", type=Path, help="folder for films of what does not come true")
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    sampler = RolloutConfig(flow_steps=a.flow_steps)
    model = placed(checkpoint.load(find_checkpoint(a.checkpoint)).model, sampler)
    if a.trusting:
        model.trust()
    probe = load_probe(CHECKPOINTS / "pick_can_probe")[0]
    env = make_env(EnvConfig(model.spec.env, options=dict(model.spec.env_options)))
    print(f"{a.checkpoint}, K = {a.flow_steps}, {a.episodes} episodes; {hardware()['processor']}")
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    for word in a.policies:
        actor = make_policy(policy_of(word), env)
        seeds = range(a.seed, a.seed + a.episodes)
        claims = made(actor, env, model, probe, seeds, a.max_steps, sampler)
        print(row(word, claims, a.episodes, a.still), flush=True)
        if a.films:
            name = f"{Path(word).resolve().parent.name}_{Path(word).name}.mp4"
            show(a.films / name, claims, model.spec)
    env.close()


def made(
    policy: Actor, env: gymnasium.Env, model: WorldModel, probe: StateProbe, seeds: range,
    steps: int, sampler: RolloutConfig,
) -> list[Claim]:  # fmt: skip
    """What ``policy`` is granted inside, from the starts with these seeds, and what comes of it."""
    starts = starts_from([env.reset(seed=seed)[0] for seed in seeds], model.spec)
    claims = []
    with Progress("act inside", total=len(seeds), unit="episodes") as bar:
        for i, episode in play(policy, starts, model, steps, sampler, seeds[0]):
            if episode.success:
                real = carried_out(env, model.spec, seeds[i], episode)
                seen = real.images[: len(episode.images)]
                far = moved(probe, episode.images)
                claims.append(Claim(bool(real.success.any()), far, episode.images, seen))
            bar.advance(1, f"{len(claims)} granted")
    return claims


def carried_out(
    env: gymnasium.Env, spec: DataSpec, seed: int, episode: ImaginedEpisode
) -> Recording:
    """What its actions lead to, and staying there, the hand as open as it was."""
    still = np.zeros((AFTER, episode.action.shape[1]), np.float32)
    still[:, -1] = episode.action[-1, -1]
    return replay(env, spec, seed, np.concatenate([episode.action, still]))


def row(word: str, claims: list[Claim], episodes: int, still: float) -> str:
    """A line of the table."""
    true = np.array([claim.true for claim in claims], bool)
    far = np.array([claim.moved for claim in claims])
    told = f"{roc_auc(far, ~true):.3f}" if 0 < true.sum() < len(true) else "–"
    left = far <= still
    cells = [
        word, f"{len(true)} of {episodes}", _share(true), told, str(left.sum()), _share(true[left])
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _share(true: np.ndarray) -> str:
    n, k = len(true), int(true.sum())
    low, high = wilson(k, n) if n else (0.0, 1.0)
    return f"{k} of {n} [{low:.2f}, {high:.2f}]"


def show(file: Path, claims: list[Claim], spec: DataSpec) -> None:
    """The first false ones next to one another: each camera, imagined above real."""
    columns = []
    for claim in [claim for claim in claims if not claim.true][:FILMS]:
        both = np.stack([claim.imagined, claim.real], axis=2)  # (T, C, 2, h, w, 3)
        columns.append(upscale(rearrange(both, "t c k h w x -> t (c k h) w x"), 2))
    if columns:
        file.parent.mkdir(parents=True, exist_ok=True)
        frames = side_by_side(columns, height=columns[0].shape[1])
        write_mp4(file, frames, spec.control_frequency)


if __name__ == "__main__":
    main()
