"""One demonstration or exploration: who acts in an env, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from worldmodel.disturbance import Disturbance, Executor, Exploration, stretch
from worldmodel.episode import Episode
from worldmodel.errors import UserError
from worldmodel.spec import DataSpec, succeeded, task_of
from worldmodel.trials import Actor

if TYPE_CHECKING:
    from worldmodel.collect import CollectConfig


def executor(spec: DataSpec, seed: int, config: CollectConfig, phases: bool) -> Executor:
    """What turns the wanted actions of the episode with this seed into the executed ones."""
    rng = np.random.default_rng([seed, 1])
    names = spec.action_names
    return Exploration(names, rng) if phases else Disturbance(names, config, rng)


@dataclass
class _Take:
    """An episode under way."""

    env: Any
    seed: int
    disturb: Executor
    led: range  # steps in which the student acts
    linger: int  # steps that are left once the task is done
    obs: list[dict[str, np.ndarray]]
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    outcome: str = ""
    done: bool = False  # the task, and now it lingers
    over: bool = False  # the episode

    def step(self, wanted: np.ndarray, student: np.ndarray | None) -> None:
        n = len(self.rows)
        wanted = self._sound(wanted)
        executed = self.disturb(wanted, n)
        if student is not None and n in self.led:
            executed = self._sound(student)
        obs, reward, terminated, truncated, info = self.env.step(executed)
        success = succeeded(info)
        if self.done:  # it stays so, and was paid for
            reward, terminated, success = 0.0, True, True
            self.linger -= 1
        else:
            self.outcome = str(info.get("outcome", "success" if success else "failure"))
        self.rows.append((executed, wanted, reward, terminated, truncated, success))
        self.obs.append(obs)
        self.done |= success and terminated and self.linger > 0
        self.over = truncated or (terminated and not (self.done and self.linger))

    def _sound(self, action: np.ndarray) -> np.ndarray:
        if not np.isfinite(action).all():
            raise UserError(
                f"the policy's action at step {len(self.rows)} of seed {self.seed} is not finite"
            )
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    def episode(self, spec: DataSpec) -> Episode:
        executed, wanted, reward, terminated, truncated, success = zip(*self.rows, strict=True)
        return Episode(
            images={c: np.stack([o[c] for o in self.obs]) for c in spec.cameras},
            proprio=np.stack([o["proprio"] for o in self.obs]).astype(np.float32),
            action=np.stack(executed), label=np.stack(wanted), reward=np.array(reward, np.float32),
            terminated=np.array(terminated, bool), truncated=np.array(truncated, bool),
            success=np.array(success, bool), task=task_of(self.env), seed=self.seed,
            outcome=self.outcome,
        )  # fmt: skip


def run_episodes(
    envs: Sequence[Any], policy: Actor, spec: DataSpec, seeds: Sequence[int],
    disturb: Sequence[Executor], student: Actor | None = None, longest: int | None = None,
    linger: int = 0,
) -> list[Episode]:  # fmt: skip
    """One episode in each env, side by side, of up to ``longest`` steps (None: as long as the env
    has it); a ``student`` leads in a stretch of each. They go on for ``linger`` steps once the task
    is done: those are successes too, without reward.

    UserError when an env or who acts gives something that is not finite.
    """
    takes = [
        _Take(env, seed, executor, stretch(np.random.default_rng([seed, 2])), linger,
              [env.reset(seed=seed)[0]])
        for env, seed, executor in zip(envs, seeds, disturb, strict=True)
    ]  # fmt: skip
    actors = [policy] if student is None else [policy, student]
    for actor in actors:
        actor.reset(seeds)
    while not all(take.over for take in takes):
        names = takes[0].obs[-1]
        seen = {k: np.stack([np.asarray(t.obs[-1][k]) for t in takes]) for k in names}
        wanted, *led = (np.asarray(actor.act(seen)) for actor in actors)
        for i, take in enumerate(takes):
            if not take.over:
                take.step(wanted[i], led[0][i] if led else None)
                take.over |= len(take.rows) == longest
    return [take.episode(spec) for take in takes]
