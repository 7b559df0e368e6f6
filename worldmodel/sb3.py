"""Imagined worlds for Stable-Baselines3, which refuses Gymnasium's own vector environments.

    model = PPO("MultiInputPolicy", ImaginedVecEnv(ImaginedVectorEnv(32, "pick_can_tiny")))

Needs the extra [rl].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from worldmodel.errors import RunError, UserError
from worldmodel.imagined_env import ImaginedVectorEnv

try:
    from stable_baselines3.common.vec_env import VecEnv  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise RunError(
        f"Stable-Baselines3 is not installed ({error}): pip install 'worldmodel[rl]'"
    ) from error


class ImaginedVecEnv(VecEnv):
    """``envs`` in Stable-Baselines3's words."""

    def __init__(self, envs: ImaginedVectorEnv) -> None:
        if envs.autoreset_mode != AutoresetMode.SAME_STEP:
            raise UserError(
                f"autoreset_mode: got {envs.autoreset_mode}, expected SAME_STEP, as in "
                "Stable-Baselines3's own"
            )
        self.envs, self.render_mode = envs, envs.render_mode
        self._seed: int | None = None
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> dict[str, np.ndarray]:
        obs, _ = self.envs.reset(seed=self._seed)
        self._seed = None
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, list[dict]]:
        obs, reward, terminated, truncated, info = self.envs.step(self._actions)
        done, final = terminated | truncated, info.get("final_info", info)
        infos: list[dict[str, Any]] = []
        for i in range(self.num_envs):
            source = final if done[i] else info
            infos.append({"is_success": bool(source["is_success"][i])})
            if done[i]:
                infos[i]["terminal_observation"] = {k: v[i] for k, v in info["final_obs"].items()}
                infos[i]["TimeLimit.truncated"] = bool(truncated[i])
        return obs, reward, done, infos

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Every row has its own noise from this one; it counts from the next reset on."""
        self._seed = seed
        return [seed] * self.num_envs

    def get_images(self) -> Sequence[np.ndarray | None]:
        return self.envs.render() or [None] * self.num_envs

    def close(self) -> None:
        self.envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.envs, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self.envs, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None) -> list[Any]:
        raise NotImplementedError(f"{method_name}: these worlds are one object, not N")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))
