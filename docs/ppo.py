"""PPO of Stable-Baselines3 inside the model and, to compare, in the simulator: reach the can.

    python docs/ppo.py [--reward pictures] [--world pick_can_world] [--steps 16384] [--seeds 3]

PickCan, cut after 30 steps; it counts as done when the gripper's tip came within 0.05 m of the
can's axis, which the simulator's `info["outcome"]` tells. The agent sees proprioception and, read
off the pictures by the state probe, where the can is, simulated or imagined. The reward is either
the approach to the can that is so read (`pictures`) or the env's own dense one, for which the
model has its outcome leaf (`env`). Both sides get the same words, steps and seeds, and both agents
are tried in MuJoCo on the same held-out episodes. Needs the extra [rl]. What is finished is kept.

With --collect N, N episodes in MuJoCo of each agent that was trained in the model are written to
OUT/episodes, for a model to learn from where it was exploited.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from safetensors.torch import load_file
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecNormalize

import envs  # noqa: F401 (registers PickCan)
from worldmodel.checkpoint import write_tensors
from worldmodel.collect import CollectConfig, collect
from worldmodel.files import write_json
from worldmodel.imagined_env import ImaginedVectorEnv
from worldmodel.log import Progress
from worldmodel.metrics import wilson
from worldmodel.probe import StateProbe, load_probe
from worldmodel.report import Report
from worldmodel.runs import hardware
from worldmodel.sb3 import ImaginedVecEnv
from worldmodel.shipped import CHECKPOINTS
from worldmodel.video import side_by_side, write_mp4

ENV, CAMERAS, HORIZON = "worldmodel/PickCan-v0", ("front", "wrist"), 30
WORLDS = 32
TEST_SEED = 90_000  # test i starts with TEST_SEED + i
COLLECT_SEED = 8_500_000
PLACES = ("simulator", "model")
WORDS = {
    "n_steps": 32, "batch_size": 256, "n_epochs": 10, "gamma": 0.95, "gae_lambda": 0.9,
    "learning_rate": 1e-3, "policy_kwargs": {"log_std_init": -0.7, "net_arch": [128, 128]},
}  # fmt: skip


class Reading(VecEnvWrapper):
    """Observations (P + 6,): proprioception; the can's place [m], and the same from the hand.

    With ``approach`` the reward is the change of PickCan's own term for it, off the same reading.
    """

    def __init__(self, venv: VecEnv, probe: StateProbe, approach: bool) -> None:
        self.probe, self.approach = probe, approach
        size = venv.observation_space["proprio"].shape[0] + 6
        super().__init__(venv, gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32))

    def reset(self) -> np.ndarray:
        self.latest = read(self.probe, self.venv.reset())
        return self.latest

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        obs, reward, done, infos = self.venv.step_wait()
        before, self.latest = self.latest, read(self.probe, obs)
        after = self.latest.copy()  # of the same episode
        for row, info in enumerate(infos):
            if "terminal_observation" in info:
                last = {name: value[None] for name, value in info["terminal_observation"].items()}
                after[row] = info["terminal_observation"] = read(self.probe, last)[0]
        if self.approach:
            reward = nearness(after) - nearness(before)
        return self.latest, reward, done, infos


def read(probe: StateProbe, obs: dict[str, np.ndarray]) -> np.ndarray:
    """(N, P + 6) of observations whose values lead with N."""
    can = probe.read(np.stack([obs[name] for name in CAMERAS], axis=1))["can"]
    return np.concatenate([obs["proprio"], can, can - obs["proprio"][:, :3]], 1, dtype=np.float32)


def nearness(seen: np.ndarray) -> np.ndarray:
    """(N,) 0.3 (1 - tanh(5 d)), d [m] from the hand to the can's centre."""
    return 0.3 * (1.0 - np.tanh(5.0 * np.linalg.norm(seen[:, -3:], axis=1)))


def make(place: str, world: str, seed: int) -> VecEnv:
    """WORLDS envs of either kind."""
    if place == "model":
        inside = ImaginedVectorEnv(WORLDS, world, max_episode_steps=HORIZON, reward="dense")
        venv: VecEnv = ImaginedVecEnv(inside)
    else:
        words: dict[str, Any] = {"reward": "dense", "max_episode_steps": HORIZON}
        venv = DummyVecEnv([lambda: gymnasium.make(ENV, **words) for _ in range(WORLDS)])
    venv.seed(1_000 * seed)
    return venv


def try_out(
    act: Callable[[np.ndarray], np.ndarray], probe: StateProbe, episodes: int, film: Path | None
) -> dict[str, Any]:
    """Reached in MuJoCo, without an agent's noise: the share with its interval, and the return."""
    reached, returns, pictures = 0, [], []
    env = gymnasium.make(ENV, reward="dense", max_episode_steps=HORIZON)
    for i in range(episodes):
        obs, info = env.reset(seed=TEST_SEED + i)
        total, over = 0.0, False
        while not over:
            if i == 0:
                pictures.append([obs[name] for name in CAMERAS])
            rows = {name: value[None] for name, value in obs.items()}
            obs, reward, terminated, truncated, info = env.step(act(read(probe, rows))[0])
            total, over = total + float(reward), terminated or truncated
        reached += info["outcome"] != "not_reached"
        returns.append(total)
    env.close()
    if film is not None:
        write_mp4(film, side_by_side(list(np.array(pictures).swapaxes(0, 1))), fps=10)
    return {
        "episodes": episodes, "reached": reached / episodes, "wilson95": wilson(reached, episodes),
        "mean_return": float(np.mean(returns)),
    }  # fmt: skip


def learn(place: str, seed: int, chosen: argparse.Namespace, probe: StateProbe) -> None:
    """Train one agent, try it before and after, and write its folder."""
    folder = chosen.out / f"{place}-{seed}"
    if (folder / "result.json").exists():
        done = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        asked = {"world": chosen.world, "reward": chosen.reward}
        if changed := [f"{k}={done[k]}" for k, v in asked.items() if done[k] != v]:
            raise SystemExit(f"{folder} was made with {', '.join(changed)}; give another --out")
        return
    seen = Reading(make(place, chosen.world, seed), probe, chosen.reward == "pictures")
    venv = VecNormalize(seen, gamma=WORDS["gamma"])
    agent = PPO("MlpPolicy", venv, seed=seed, device="cpu", **WORDS)

    def act(obs: np.ndarray) -> np.ndarray:
        return agent.predict(venv.normalize_obs(obs), deterministic=True)[0]

    before = try_out(act, probe, chosen.episodes, None)
    curve: list[tuple[int, float]] = []

    class Follow(BaseCallback):
        """Counts, and keeps the return in the place where it trains."""

        def _on_step(self) -> bool:
            self.total = getattr(self, "total", np.zeros(WORLDS)) + venv.get_original_reward()
            for row in np.flatnonzero(self.locals["dones"]):
                curve.append((self.num_timesteps, float(self.total[row])))
                self.total[row] = 0.0
            bar.advance(WORLDS, text=f"{place} {seed}, return {recent(curve):.2f}")
            return True

    began = time.monotonic()
    with Progress("ppo", chosen.steps, unit="env steps") as bar:
        agent.learn(chosen.steps, callback=Follow())
    minutes = (time.monotonic() - began) / 60
    venv.training = False
    after = try_out(act, probe, chosen.episodes, folder / "simulator.mp4")
    weights = {f"policy.{k}": v for k, v in agent.policy.state_dict().items()}
    for name in ("mean", "var"):
        weights[f"observations.{name}"] = torch.from_numpy(getattr(venv.obs_rms, name))
    write_tensors(folder / "agent.safetensors", weights, {"format": 1})
    result = {
        "place": place, "seed": seed, "world": chosen.world, "reward": chosen.reward,
        "env_steps": agent.num_timesteps, "minutes": minutes, "before": before, "after": after,
        "return_there": recent(curve), "curve": curve, "hardware": hardware(),
    }  # fmt: skip
    write_json(folder / "result.json", result)


class Agents:
    """Trained agents as one policy of the package: the seed of an episode picks whose."""

    def __init__(self, folders: Sequence[Path], env: gymnasium.Env) -> None:
        self.probe, _ = load_probe(CHECKPOINTS / "pick_can_probe")
        self.nets, self.norms = [], []
        for folder in folders:
            weights = load_file(folder / "agent.safetensors")
            norm = [weights.pop(f"observations.{name}").numpy() for name in ("mean", "var")]
            seen = gymnasium.spaces.Box(-np.inf, np.inf, norm[0].shape, np.float32)
            net = ActorCriticPolicy(seen, env.action_space, lambda _: 0.0, **WORDS["policy_kwargs"])
            net.load_state_dict({k.removeprefix("policy."): v for k, v in weights.items()})
            self.nets.append(net)
            self.norms.append((norm[0], np.sqrt(norm[1] + 1e-8)))

    def reset(self, seeds: Sequence[int], mask: np.ndarray | None = None) -> None:
        self.seeds = [int(seed) for seed in seeds]

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        actions = []
        for seen, seed in zip(read(self.probe, obs), self.seeds, strict=True):
            mean, spread = self.norms[seed % len(self.nets)]
            seen = np.clip((seen - mean) / spread, -10.0, 10.0).astype(np.float32)
            actions.append(self.nets[seed % len(self.nets)].predict(seen, deterministic=True)[0])
        return np.stack(actions)


def make_env() -> gymnasium.Env:
    return gymnasium.make(ENV, reward="dense")


def recent(curve: list[tuple[int, float]]) -> float:
    """Mean return of the last 100 episodes."""
    return float(np.mean([value for _, value in curve[-100:]])) if curve else float("nan")


def report(out: Path) -> str:
    """Write `out/report.html`; the table as markdown."""
    rows = [json.loads(f.read_text(encoding="utf-8")) for f in sorted(out.glob("*/result.json"))]
    names = ["trained in", "seed", "env steps", "minutes", "reached in MuJoCo before", "after",
             "return there", "in MuJoCo"]  # fmt: skip
    cells = [
        [
            r["place"], r["seed"], r["env_steps"], f"{r['minutes']:.1f}", share(r["before"]),
            share(r["after"]), f"{r['return_there']:.2f}", f"{r['after']['mean_return']:.2f}",
        ]
        for r in rows
    ]  # fmt: skip
    page = Report("Reach the can: PPO", "trained inside the model and in the simulator")
    cards, text = {}, []
    for place in PLACES:
        there = [r["after"] for r in rows if r["place"] == place]
        n = sum(r["episodes"] for r in there)
        if n:
            won = round(sum(r["reached"] * r["episodes"] for r in there))
            low, high = wilson(won, n)
            cards[f"reached, trained in the {place}"] = f"{won / n:.3f} [{low:.3f}, {high:.3f}]"
    text += [f"{name}: {value}" for name, value in cards.items()]
    lines = {
        f"{r['place']} {r['seed']}": smooth(r["curve"]) for r in rows if len(r["curve"]) > WORLDS
    }
    page.figures(cards).heading("Return where it trained")
    page.chart(lines, x_label="env steps").heading("Agents").table(names, cells)
    for film in sorted(out.glob("*/*.mp4")):
        page.video(film, f"{film.parent.name}: the first test, in MuJoCo")
    page.write(out / "report.html")
    table = ["| " + " | ".join(map(str, row)) + " |" for row in (names, ["---"] * 8, *cells)]
    return "\n".join([*table, *text])


def share(tried: dict[str, Any]) -> str:
    low, high = tried["wilson95"]
    return f"{tried['reached']:.3f} [{low:.3f}, {high:.3f}]"


def smooth(curve: list[tuple[int, float]]) -> tuple[list[float], list[float]]:
    """Means of WORLDS episodes at a time."""
    groups = [curve[i : i + WORLDS] for i in range(0, len(curve) - WORLDS + 1, WORLDS)]
    return [float(g[-1][0]) for g in groups], [float(np.mean([v for _, v in g])) for g in groups]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--reward", choices=("pictures", "env"), default="pictures")
    parser.add_argument("--world", default="pick_can_world", help="checkpoint to train in")
    parser.add_argument("--steps", type=int, default=16_384, help="env steps of one training")
    parser.add_argument("--seeds", type=int, default=3, help="trainings on either side")
    parser.add_argument("--episodes", type=int, default=300, help="held-out episodes of a test")
    parser.add_argument("--places", nargs="+", choices=PLACES, default=PLACES)
    parser.add_argument("--collect", type=int, default=0, help="episodes of each agent to write")
    parser.add_argument("--out", type=Path, default=None, help="none: runs/ppo/REWARD")
    chosen = parser.parse_args()
    chosen.out = chosen.out or Path("runs/ppo") / chosen.reward
    probe, _ = load_probe(CHECKPOINTS / "pick_can_probe")
    for seed in range(chosen.seeds):
        for place in chosen.places:
            learn(place, seed, chosen, probe)
    print(report(chosen.out))
    if chosen.collect:
        folders = sorted(f.parent for f in chosen.out.glob("model-*/agent.safetensors"))
        config = CollectConfig(
            episodes=chosen.collect * len(folders),
            seed=COLLECT_SEED,
            keep="all",
            teach=False,
            action_noise=0.0,
            burst=0.0,
        )
        collect(make_env, partial(Agents, folders), config, chosen.out / "episodes")


if __name__ == "__main__":
    main()
