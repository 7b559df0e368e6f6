"""Two worlds driven by the same actions from the same start: the imagined one and the simulator.

game = Game(env, model, drivers, ...)
game.start(seed=7)
moment = game.step("you", action)        # or a driver's name alone: it acts by itself
game.rewind(moment.step - 10)            # and go on from there, along another branch
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from worldmodel.dataset_writer import finish, shard_file, write_shard
from worldmodel.episode import Episode
from worldmodel.errors import UserError
from worldmodel.model import WorldModel
from worldmodel.outcomes import Outcomes, Verdicts
from worldmodel.probe import StateProbe
from worldmodel.recording import truth_of
from worldmodel.rollout import Imagination, RolloutConfig, generators_from
from worldmodel.spec import task_of
from worldmodel.trials import Actor
from worldmodel.video import side_by_side, write_mp4

YOU = "you"  # the driver whose actions come from outside
Drivers = Mapping[str, tuple[Actor, bool]]  # name: who, and whether it sees what is imagined


class Side(NamedTuple):
    """What one of the two worlds shows."""

    images: np.ndarray  # uint8 (C, h, w, 3)
    proprio: np.ndarray  # float32 (P,)


@dataclass(frozen=True)
class Moment:
    """Both worlds at step n, and what led there."""

    step: int
    imagined: Side
    real: Side
    action: np.ndarray | None  # (A,); None at the start
    driver: str
    success: float  # chance that the model reads here
    reward: float  # dense, likewise
    done: bool  # whether the model takes the task to be done by now
    strayed: bool  # whether it takes what it shows to be no longer what would be
    reward_real: float
    outcome: str  # the simulator's verdict
    over: bool  # the simulator's episode has ended: it stands still from here on
    apart: dict[str, float]  # mm between where things are imagined to be, by the probe, and are
    model_ms: float
    simulator_ms: float


class Game:
    """One start at a time; not thread-safe."""

    def __init__(
        self, env: Any, model: WorldModel, drivers: Drivers, probe: StateProbe | None = None,
        sampler: RolloutConfig | None = None, history: int = 2000,
    ) -> None:  # fmt: skip
        """``history``: steps that are kept for rewinding and saving."""
        if YOU in drivers:
            raise ValueError(f"'{YOU}' is whoever calls step with an action")
        if history <= model.config.window:
            raise ValueError(f"history: got {history}, expected more than {model.config.window}")
        self.env, self.model, self.drivers, self.probe = env, model, dict(drivers), probe
        self.sampler = sampler or RolloutConfig()
        self.history: deque[Moment] = deque(maxlen=history)
        self.actions: list[np.ndarray] = []
        self.seed, self.saved, self.branches = 0, 0, 0
        self.start(0)

    @property
    def now(self) -> Moment:
        return self.history[-1]

    def start(self, seed: int, options: dict[str, Any] | None = None) -> Moment:
        """Both worlds at the env's start of this seed, and of these options of its reset."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.seed, self.options, self.branches = seed, options, 0
        self.actions, self._obs = [], obs
        self.first = side = self._side(obs)
        self.history.clear()
        self._imagine([side], [])
        self._reset_drivers()
        outcome = str(info.get("outcome", ""))
        self.history.append(
            Moment(
                0, side, side, None, "", 0.0, 0.0, False, False, 0.0, outcome, False, {}, 0.0, 0.0
            )
        )
        return self.now

    def step(self, driver: str, action: np.ndarray | None = None) -> Moment:
        """One step of both worlds; UserError for an unknown driver, or an action that is none."""
        before = self.now
        action = self._action(driver, action)
        mark = time.perf_counter()
        images, proprio = self.world.step(torch.from_numpy(action[None]))
        imagined = Side(images[0].cpu().numpy(), proprio[0].float().cpu().numpy())
        read = self.verdicts.read(self.world.outcomes())
        model_ms = 1000 * (time.perf_counter() - mark)
        mark = time.perf_counter()
        real, outcome, over, reward = before.real, before.outcome, before.over, 0.0
        if not over:
            self._obs, reward, terminated, _, info = self.env.step(action)
            real, over = self._side(self._obs), bool(terminated)
            outcome = str(info.get("outcome", "success" if info.get("success") else ""))
            reward = float(info.get("reward_dense", reward))
        simulator_ms = 1000 * (time.perf_counter() - mark)
        self.actions.append(action)
        self.history.append(
            Moment(
                before.step + 1, imagined, real, action, driver, *_reading(read), float(reward),
                outcome, over, self._apart(imagined), model_ms, simulator_ms,
            )
        )  # fmt: skip
        return self.now

    def rewind(self, step: int) -> Moment:
        """Back to a step that is still kept; what came after it is forgotten.

        The simulator repeats its actions from the start. UserError for a step that is not kept.
        """
        oldest = self.history[0].step
        if not oldest <= step <= self.now.step:
            raise UserError(f"step: got {step}, expected {oldest} to {self.now.step}")
        while self.now.step > step:
            self.history.pop()
        kept = self.now
        self.actions = self.actions[:step]
        self._obs, _ = self.env.reset(seed=self.seed, options=self.options)
        for action in self.actions:
            self._obs, _, terminated, _, _ = self.env.step(action)
            if terminated:
                break
        window = list(self.history)[-self.model.config.window :]
        sides, led = [m.imagined for m in window], [m.action for m in window[1:]]
        if window[0].step > 0:  # the first observation is remembered for ever
            sides, led = [self.first, *sides], [window[0].action, *led]
        self.branches += 1
        self._imagine(sides, [action for action in led if action is not None])
        self._reset_drivers()
        return kept

    def save(self, folder: Path) -> Path:
        """What is kept, as ``play-<k>.mp4`` (imagined, then real cameras) and as an episode of the
        dataset ``episodes`` in ``folder``: the simulator's side, for training on. Returns the film.
        """
        if self.now.step == 0:
            raise UserError("nothing has been played yet: take a step, then save")
        moments = list(self.history)
        sides = [[m.imagined for m in moments], [m.real for m in moments]]
        columns = [
            np.stack([s.images[c] for s in side])
            for side in sides
            for c in range(len(self.model.spec.cameras))
        ]
        film = folder / f"play-{self.saved:03d}.mp4"
        write_mp4(film, side_by_side(columns), fps=self.model.spec.control_frequency)
        data, spec, number = folder / "episodes", self.model.spec, self.saved
        while shard_file(data, number).exists():
            number += 1
        episode = self._episode(moments)
        shown = bool(episode.success.any())
        write_shard(data, spec, number, number, [episode], [shown], attempts=1)
        finish(data, spec, range(number + 1), {"played": True}, more=True)
        self.saved += 1
        return film

    # ------------------------------------------------------------------------------------------

    def _episode(self, moments: list[Moment]) -> Episode:
        """The simulator's side, up to where it ended."""
        ends = next((i for i, m in enumerate(moments) if m.over), len(moments) - 1)
        part = moments[: ends + 1]
        action = np.stack([m.action for m in part[1:] if m.action is not None])
        T, names = len(action), self.model.spec.cameras
        over, success = np.zeros(T, bool), np.zeros(T, bool)
        over[-1], success[-1] = part[-1].over, part[-1].outcome == "success"
        return Episode(
            images={n: np.stack([m.real.images[c] for m in part]) for c, n in enumerate(names)},
            proprio=np.stack([m.real.proprio for m in part]), action=action, label=action,
            reward=np.array([m.reward_real for m in part[1:]], np.float32), terminated=over,
            truncated=np.zeros(T, bool), success=success, task=task_of(self.env),
            seed=self.seed, outcome=part[-1].outcome or "played",
        )  # fmt: skip

    def _action(self, driver: str, action: np.ndarray | None) -> np.ndarray:
        A = self.model.spec.A
        if driver == YOU:
            action = np.zeros(A, np.float32) if action is None else np.asarray(action, np.float32)
            if action.shape != (A,) or not np.isfinite(action).all() or np.abs(action).max() > 1:
                raise UserError(f"action: got {action.tolist()}, expected {A} numbers, -1 to 1")
            return action
        if driver not in self.drivers:
            known = ", ".join([YOU, *self.drivers])
            raise UserError(f"driver: got '{driver}', expected one of {known}")
        actor, dreams = self.drivers[driver]
        obs = self._seen(self.now.imagined) if dreams else self._obs
        chosen = actor.act({k: np.asarray(v)[None] for k, v in obs.items()})[0]
        return np.clip(np.asarray(chosen, np.float32), -1.0, 1.0)

    def _seen(self, side: Side) -> dict[str, np.ndarray]:
        cameras = dict(zip(self.model.spec.cameras, side.images, strict=True))
        return {**cameras, "proprio": side.proprio}

    def _side(self, obs: Mapping[str, np.ndarray]) -> Side:
        images = np.stack([obs[name] for name in self.model.spec.cameras])
        return Side(images, np.asarray(obs["proprio"], np.float32))

    def _imagine(self, sides: list[Side], actions: list[np.ndarray]) -> None:
        """Go on from these, of which the actions lead from one to the next."""
        images = torch.from_numpy(np.stack([s.images for s in sides])[None])
        proprio = torch.from_numpy(np.stack([s.proprio for s in sides])[None])
        A = self.model.spec.A
        led = np.stack(actions) if actions else np.zeros((0, A), np.float32)
        generators = generators_from(self.seed + self.branches, 1)
        self.world = Imagination(
            self.model, images, proprio, torch.from_numpy(led[None]), generators=generators,
            config=self.sampler,
        )  # fmt: skip
        self.verdicts = Verdicts(1)

    def _reset_drivers(self) -> None:
        for actor, _ in self.drivers.values():
            actor.reset([self.seed])

    def _apart(self, imagined: Side) -> dict[str, float]:
        truth = truth_of(self.env)
        if self.probe is None or not truth:
            return {}
        read = self.probe.read(imagined.images)
        return {
            name: float(1000 * np.linalg.norm(read[name] - truth[name]))
            for name in self.probe.positions
        }


def _reading(read: Outcomes) -> tuple[float, float, bool, bool]:
    """Chance of success, dense reward, whether the task is taken to be done, and whether what is
    shown has strayed."""
    chance, reward = float(read.success_probability[0]), float(read.reward_dense[0])
    return chance, reward, bool(read.success[0]), bool(read.strayed[0])
