"""The game and what is beside it: checkpoints to choose from, a dataset to start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.dataset import Dataset
from worldmodel.errors import UserError
from worldmodel.play.game import YOU, Game, Moment
from worldmodel.spec import attribute, task_of

RECORDED = "recorded"  # the driver that repeats a dataset's episode


class Session:
    """One game at a time, over one env; what the page may ask for beyond a step."""

    def __init__(
        self, env: Any, make_game: Callable[[Any, str], Game], checkpoints: Sequence[str],
        out: Path, dataset: Dataset | None = None,
    ) -> None:  # fmt: skip
        """``make_game`` makes one of the env and a checkpoint's name; saved things go to ``out``.

        The env may have ``keys``: a key's name -> the action's index that it moves, and how far; 0
        stands for back and forth between 1 and -1. Without them digits are given out.
        """
        self.make_game, self.env, self.checkpoints = make_game, env, list(checkpoints)
        self.out, self.dataset = out, dataset
        self.tape: np.ndarray | None = None
        self.choose(self.checkpoints[0])
        self.keys = attribute(env, "keys") or _digits(self.game.model.spec.A)

    def close(self) -> None:
        self.env.close()

    def choose(self, name: object) -> Moment:
        """Begin again inside another model."""
        if name not in self.checkpoints:
            raise UserError(
                f"checkpoint: got {str(name)[:80]!r}, expected one of {', '.join(self.checkpoints)}"
            )
        seed = self.game.seed if hasattr(self, "game") else 0
        self.game, self.chosen = self.make_game(self.env, str(name)), str(name)
        return self.start(seed)

    @property
    def tasks(self) -> list[str]:
        """Tasks to choose from, where the env has several and takes one as reset's option."""
        return list(attribute(self.env, "task_names", ()))

    def start(self, seed: int, task: str = "") -> Moment:
        """The env's start of this seed; of this task, where there are several ('': the seed's)."""
        if task and task not in self.tasks:
            known = ", ".join(self.tasks) or "none: this env has but one task"
            raise UserError(f"task: got {task[:80]!r}, expected one of {known}")
        self.tape = None
        return self.game.start(seed, {"task": task} if task else None)

    def start_as_in(self, index: int) -> Moment:
        """Where the dataset's episode of this number began; the driver 'recorded' repeats it."""
        if self.dataset is None:
            raise UserError("there is no dataset to start from; give `worldmodel play data=…`")
        if index >= len(self.dataset):
            raise UserError(f"episode: got {index}, expected 0 to {len(self.dataset) - 1}")
        e = self.dataset.episodes[index]
        moment = self.game.start(e.seed)
        self.tape = self.dataset.stream("action")[e.start : e.start + e.length]
        return moment

    def step(self, driver: str, action: np.ndarray | None) -> Moment:
        """One step of the game."""
        if driver != RECORDED:
            return self.game.step(driver, action)
        if self.tape is None:
            raise UserError("nothing is recorded from this start; begin with a dataset's episode")
        n = self.game.now.step
        recorded = self.tape[n] if n < len(self.tape) else np.zeros_like(self.tape[0])
        return self.game.step(YOU, recorded)

    def save(self) -> dict[str, str]:
        """Where the film and the episodes are."""
        film = self.game.save(self.out)
        return {"saved": str(film), "episodes": str(self.out / "episodes")}

    def about(self) -> dict[str, Any]:
        """What a page needs to know once, and what has been so far."""
        game, spec = self.game, self.game.model.spec
        recorded = [RECORDED] if self.tape is not None else []
        return {
            "cameras": list(spec.cameras), "size": list(spec.image_size), "task": task_of(self.env),
            "tasks": self.tasks,
            "env": spec.env, "frequency": spec.control_frequency,
            "actions": list(spec.action_names),
            "keys": {k: list(v) for k, v in self.keys.items()},
            "drivers": [YOU, *game.drivers, *recorded], "checkpoints": self.checkpoints,
            "checkpoint": self.chosen, "flow_steps": game.sampler.flow_steps,
            "episodes": len(self.dataset) if self.dataset else 0, "seed": game.seed,
            "past": [self.brief(m) for m in game.history],
        }  # fmt: skip

    def brief(self, m: Moment) -> list[float]:
        """What the strips show of a moment: step, chance of success, reward, gap in mm."""
        gap = max(m.apart.values(), default=float("nan"))
        return [m.step, m.success, m.reward, gap if np.isfinite(gap) else -1.0]

    def header(self, m: Moment) -> dict[str, Any]:
        """A moment without its pictures."""
        return {
            "step": m.step, "oldest": self.game.history[0].step, "seed": self.game.seed,
            "driver": m.driver, "success": m.success, "reward": m.reward, "done": m.done,
            "strayed": m.strayed, "outcome": m.outcome, "over": m.over, "apart": m.apart,
            "model_ms": m.model_ms, "simulator_ms": m.simulator_ms,
            "action": [] if m.action is None else [round(float(a), 3) for a in m.action],
            "gripper": {"imagined": m.imagined.proprio.tolist(), "real": m.real.proprio.tolist()},
        }  # fmt: skip


def _digits(actions: int) -> dict[str, tuple[int, float]]:
    """Two keys for each number of an action, as far as they reach."""
    keys = "34567890uiophjklbnm,."
    pairs = zip(keys[::2], keys[1::2], strict=False)
    return {
        key: (i, value)
        for i, pair in zip(range(actions), pairs, strict=False)
        for key, value in zip(pair, (-1.0, 1.0), strict=True)
    }
