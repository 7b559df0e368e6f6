"""The env's own scripted expert as a policy. It reads the simulator, not the observation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np

from policies.base import reset_rows
from worldmodel.spec import attribute


class ScriptedPolicy:
    """Plays the ``expert(np_random)`` of ``env``, or of a wrapper around it, in ``env``, or in each
    env of a SyncVectorEnv.

    With ``mistaken`` it is ``expert(np_random, mistaken=True)``, one that fails as people do.
    An expert belongs to the episode that runs: reset the env first, then the policy.
    """

    def __init__(
        self, env: gymnasium.Env | gymnasium.vector.VectorEnv, mistaken: bool = False
    ) -> None:
        envs: Sequence[Any]
        envs = env.envs if isinstance(env, gymnasium.vector.SyncVectorEnv) else [env]
        self._makers: list[Callable[..., Any]] = []
        for one in envs:
            name, maker = type(one.unwrapped).__name__, attribute(one, "expert")
            if maker is None:
                raise ValueError(
                    f"{name} has no scripted expert (a method `expert(np_random)`); "
                    "use policy=random or a checkpoint"
                )
            if mistaken and "mistaken" not in inspect.signature(maker).parameters:
                raise ValueError(
                    f"{name} has no mistaken expert (`expert(np_random, mistaken)`); "
                    "`worldmodel collect mistaken=0`, `worldmodel rollout mistakes=false`"
                )
            self._makers.append(maker)
        self._experts: list[Any] = []
        self._how = {"mistaken": True} if mistaken else {}

    def reset(self, seeds: Sequence[int], mask: np.ndarray | None = None) -> None:
        """Give the rows named by ``mask`` a new expert, whose style is drawn from their seed."""
        if len(seeds) != len(self._makers):
            raise ValueError(f"reset: {len(seeds)} seeds for {len(self._makers)} envs")
        rows = reset_rows(seeds, mask, len(self._experts) or None)
        if not self._experts:
            self._experts = [None] * len(seeds)
        for row in rows:
            # The env draws from default_rng(seed): another stream, lest style mirror the scene.
            np_random = np.random.default_rng([int(seeds[row]), 2])
            self._experts[row] = self._makers[row](np_random, **self._how)

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """(N, A) float32, from the envs' state; ``obs`` is not looked at."""
        return np.stack([expert.act() for expert in self._experts]).astype(np.float32)
