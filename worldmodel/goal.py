"""A picture of the goal: what is to be reached, as one more camera.

Whoever is told a goal by a picture wants one of this very scene. The env's scripted expert makes
it: it plays the episode to its end, what the camera shows then is the goal, and the episode begins
anew [goal images as in visual foresight, Ebert et al. 2018, arXiv 1812.00568].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from worldmodel.build import did_you_mean
from worldmodel.errors import RunError, UserError
from worldmodel.spec import attribute, succeeded

GOAL = "goal"  # the camera's name
ATTEMPTS = 8


class GoalImage(gymnasium.Wrapper, gymnasium.utils.RecordConstructorArgs):
    """``env`` with the camera 'goal': all through an episode, the last picture of ``camera`` in an
    expert's success from the same start.

    ``success(terminated, info)`` says whether the expert got there. A reset costs an expert's
    episode. UserError for an env without an expert or that camera;
    ``reset`` raises RunError where the expert fails every time.
    """

    def __init__(
        self, env: gymnasium.Env, camera: str,
        success: Callable[[bool, Mapping[str, Any]], bool] = lambda _, info: succeeded(info),
    ) -> None:  # fmt: skip
        gymnasium.utils.RecordConstructorArgs.__init__(self, camera=camera, success=success)
        super().__init__(env)
        space = env.observation_space
        seen = dict(space.spaces) if isinstance(space, spaces.Dict) else {}
        if camera not in seen:
            raise UserError(
                f"goal: the observation has no camera '{camera}'{did_you_mean(camera, seen)}; it "
                f"has {', '.join(seen) or 'no named parts'}"
            )
        if attribute(env, "expert") is None:
            raise UserError(
                f"goal: {type(env.unwrapped).__name__} has no scripted expert (a method "
                "`expert(np_random)`) that could reach one"
            )
        self._camera, self._success = camera, success
        self._goal = np.zeros(0, np.uint8)
        self.cameras = (*(attribute(env, "cameras") or ()), GOAL)
        self.observation_space = spaces.Dict({**seen, GOAL: seen[camera]})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """As the env's, which is played to its end first."""
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        self._goal = self._reach(seed, options)
        obs, info = self.env.reset(seed=seed, options=options)
        return {**obs, GOAL: self._goal.copy()}, info

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], Any, bool, bool, dict[str, Any]]:
        """As the env's."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return {**obs, GOAL: self._goal.copy()}, reward, terminated, truncated, info

    def _reach(self, seed: int, options: dict[str, Any] | None) -> np.ndarray:
        for attempt in range(ATTEMPTS):
            obs, info = self.env.reset(seed=seed, options=options)
            expert = attribute(self.env, "expert")(np.random.default_rng([seed, 3, attempt]))
            terminated = truncated = False
            while not (terminated or truncated):
                obs, _, terminated, truncated, info = self.env.step(expert.act())
            if self._success(terminated, info):
                return obs[self._camera]
        raise RunError(
            f"goal: the expert failed {ATTEMPTS} times from the start of seed {seed}, so there is "
            "no picture of its goal; take another seed"
        )
