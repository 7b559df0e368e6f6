"""The model as a Gymnasium environment: agents train in it as they would in the simulator.

    envs = gymnasium.make_vec("worldmodel/Imagined-v0", num_envs=32, checkpoint="pick_can_tiny")

Natively batched: 32 worlds cost little more than a few. Success, reward and termination are what
the model's outcome leaf reads off the imagined observations; the horizon truncates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from worldmodel import checkpoint as checkpoints
from worldmodel.errors import UserError
from worldmodel.model import WorldModel
from worldmodel.outcomes import Verdicts
from worldmodel.rollout import Imagination, RolloutConfig, generators_from, placed
from worldmodel.shipped import find_checkpoint
from worldmodel.spec import spaces_of
from worldmodel.starts import Starts, asking_for, load_starts

Reward = Literal["sparse", "dense"]
NEVER = 2**31  # env steps


class ImaginedVectorEnv(VectorEnv):
    """N worlds inside one model.

    | key | what |
    |---|---|
    | observation, action | the spaces of the env that the model learned, N at once |
    | reward `"sparse"` | 1 on the step that the model reads as the task's success, else 0 |
    | reward `"dense"` | the reward that the model reads; the shipped checkpoints read it badly |
    | terminated | the model reads success or another end: see :class:`outcomes.Verdicts` |
    | truncated | `max_episode_steps` steps |

    `info` at every step: `success` = `is_success` (bool), `success_probability`,
    `termination_probability`, `reward_dense`, `reward_sparse`, `value` (the discounted return that
    the demonstrators and explorers of the dataset had from here) and `strayed` (bool: by the
    model's own reading the world is no longer what would really be; no success or end is granted
    from there on), each (N,).

    `reset(options=…)`: `task`, a name (this once; the argument `task` is for ever); `start` (which
    of the starts, (N,) int); or a start of your own as `images` (N, C, h, w, 3) uint8 with
    `proprio` (N, P); `reset_mask` (N,) bool resets only some rows.

    `reset(seed=s)` gives row i the seed s + i, `reset(seed=[…])` its own, or None to go on with the
    one it has. From it a row draws its starts and its noise, by itself: the same seed, start and
    actions give the same rollout, bit for bit on a CPU in a batch of the same size.
    """

    metadata = {  # noqa: RUF012 (Gymnasium's form)
        "render_modes": ["rgb_array"], "render_fps": 10, "autoreset_mode": AutoresetMode.SAME_STEP,
    }  # fmt: skip

    def __init__(
        self, num_envs: int = 1, checkpoint: str | Path | WorldModel = "pick_can_tiny",
        starts: str | Path | Starts | None = None, max_episode_steps: int = 100,
        reward: Reward = "dense", flow_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP, device: str = "auto",
        render_mode: str | None = None, render_size: int = 256, task: str | None = None,
    ) -> None:  # fmt: skip
        """``checkpoint``: a folder, a shipped name, or a model. ``starts``: a dataset,
        with whose first observations worlds begin, or Starts; None: those in the checkpoint.
        ``task``: which of a suite's every episode asks for; None: the starts say it.

        ``flow_steps`` is K, denoising steps per observation (None: the rollout's default).
        UserError for anything that does not fit.
        """
        if num_envs < 1 or max_episode_steps < 1:
            raise UserError(
                f"expected num_envs and max_episode_steps >= 1, got {num_envs}, {max_episode_steps}"
            )
        if reward not in ("sparse", "dense"):
            raise UserError(f"reward: got '{reward}', expected 'sparse' or 'dense'")
        if render_mode not in (None, "rgb_array"):
            raise UserError(f"render_mode: got '{render_mode}', expected None or 'rgb_array'")
        if isinstance(checkpoint, WorldModel):
            self.model = checkpoint
            if starts is None:
                raise UserError("a model without its checkpoint has no starts; give starts=…")
        else:
            folder = find_checkpoint(checkpoint)
            self.model = placed(checkpoints.load(folder).model, RolloutConfig(device=device))
            starts = folder if starts is None else starts
        self.data_spec = self.model.spec
        self.starts = starts if isinstance(starts, Starts) else load_starts(starts, self.data_spec)
        every = np.arange(len(self.starts))
        self._eligible = asking_for(task, self.starts, self.data_spec) if task else every
        self.num_envs, self.horizon, self.reward_kind = num_envs, max_episode_steps, reward
        self.sampler = RolloutConfig() if flow_steps is None else RolloutConfig(flow_steps)
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {
            **self.metadata, "render_fps": round(self.data_spec.control_frequency),
            "autoreset_mode": self.autoreset_mode,
        }  # fmt: skip
        self.render_mode, self.render_size = render_mode, render_size
        seen, self._felt, self.single_action_space = spaces_of(self.data_spec)
        self.single_observation_space = gymnasium.spaces.Dict({**seen, "proprio": self._felt})
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._world: Imagination | None = None
        self._draws: list[np.random.Generator] = []  # of each row, for its starts
        self._generators: list[torch.Generator] = []  # of each row, for its noise
        self._verdicts = Verdicts(num_envs)
        self._age = np.zeros(num_envs, np.int64)
        self._over = np.zeros(num_envs, bool)

    # Gymnasium -----------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin anew; see the class for ``options``. UserError for a start that does not fit."""
        options = dict(options or {})
        mask = options.pop("reset_mask", None)
        rows = np.arange(self.num_envs) if mask is None else self._rows(mask)
        self._seed(seed, rows)
        images, proprio = self._chosen(options, rows)
        if self._world is None or len(rows) == self.num_envs:
            self._world = Imagination(
                self.model, images, proprio, generators=self._generators, config=self.sampler
            )
        else:
            self._world.restart(rows, images, proprio)
        self._age[rows], self._over[rows] = 0, False
        self._verdicts.forget(rows)
        return self._observation(), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Imagine one step. UserError for actions of another shape, beyond [-1, 1], or NaN."""
        if self._world is None:
            raise RuntimeError("step was called before reset; call envs.reset(seed=...) first")
        if self._over.any() and self.autoreset_mode == AutoresetMode.DISABLED:
            raise RuntimeError(
                f"the episodes of rows {np.flatnonzero(self._over).tolist()} are over; call "
                "reset(options={'reset_mask': …}) for them first"
            )
        begin = np.flatnonzero(self._over)  # NEXT_STEP: these rows begin anew instead of acting
        actions = np.array(actions, np.float32)
        if len(begin) and actions.ndim:
            actions[begin] = 0.0
        self._world.step(torch.from_numpy(actions))
        self._age += 1
        read = self._verdicts.read(self._world.outcomes())
        terminated, reward = read.ended.copy(), getattr(read, f"reward_{self.reward_kind}").copy()
        truncated = ~terminated & (self._age >= self.horizon)
        info = read.info()
        if len(begin):
            self._restart(begin)
            terminated[begin], truncated[begin], reward[begin] = False, False, 0.0
            info = {k: np.where(self._over, np.zeros_like(v), v) for k, v in info.items()}
        over = terminated | truncated
        info |= {f"_{name}": ~self._over for name in list(info)}
        observation = self._observation()
        if over.any() and self.autoreset_mode == AutoresetMode.SAME_STEP:
            info = {
                "final_obs": observation, "_final_obs": over,
                "final_info": {k: np.where(over, v, np.zeros_like(v)) for k, v in info.items()},
                "_final_info": over, **info,
            }  # fmt: skip
            self._restart(np.flatnonzero(over))
            observation, over = self._observation(), np.zeros_like(over)
        self._over = over
        return observation, reward, terminated, truncated, info

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The cameras side by side, uint8 (render_size, C render_size, 3) for each world."""
        if self.render_mode is None or self._world is None:
            return None
        pictures = self._world.show().cpu().numpy()
        h, w = self.data_spec.image_size
        rows = np.arange(self.render_size) * h // self.render_size
        columns = np.arange(self.render_size) * w // self.render_size
        return tuple(np.concatenate(list(p[:, rows][:, :, columns]), axis=1) for p in pictures)

    # Internals -----------------------------------------------------------------------------------

    def _observation(self) -> dict[str, np.ndarray]:
        assert self._world is not None
        images = self._world.show().cpu().numpy()
        observation = {name: images[:, c].copy() for c, name in enumerate(self.data_spec.cameras)}
        proprio = self._world.proprio.float().cpu().numpy()
        return {**observation, "proprio": np.clip(proprio, self._felt.low, self._felt.high)}

    def _restart(self, rows: np.ndarray) -> None:
        assert self._world is not None
        self._world.restart(rows, *self._chosen({}, rows))
        self._age[rows] = 0
        self._verdicts.forget(rows)

    def _seed(self, seed: int | list[int | None] | None, rows: np.ndarray) -> None:
        """Give ``rows`` what they draw from; those that get no seed keep theirs."""
        if isinstance(seed, list):
            if len(seed) != self.num_envs:
                raise UserError(f"seed: got {len(seed)} seeds, expected {self.num_envs}, one a row")
            seeds = list(seed)
        else:
            super().reset(seed=seed)
            seeds = [None if seed is None else seed + i for i in range(self.num_envs)]
        if self._world is None:
            fresh = self.np_random.integers(2**31, size=self.num_envs)
            seeds = [int(fresh[i]) if s is None else s for i, s in enumerate(seeds)]
            self._draws = [np.random.default_rng()] * self.num_envs
            self._generators = [torch.Generator()] * self.num_envs
        device = self.model.grid.device
        for i in rows:
            if (own := seeds[i]) is not None:
                self._draws[i] = np.random.default_rng(own)
                self._generators[i] = generators_from(own, 1, device)[0]

    def _chosen(self, options: dict[str, Any], rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """(images, proprio) of a start for each row: those that ``options`` name, or drawn ones."""
        n = len(rows)
        unknown = set(options) - {"task", "start", "images", "proprio"}
        if unknown:
            raise UserError(
                f"reset options: got {sorted(unknown)}, expected task, or start, or images and "
                "proprio, and reset_mask"
            )
        if "images" in options or "proprio" in options:
            if not {"images", "proprio"} <= set(options):
                raise UserError("a start of your own needs both images and proprio")
            images, proprio = (np.asarray(options[k]) for k in ("images", "proprio"))
            return torch.from_numpy(images), torch.from_numpy(proprio)
        if "start" in options:
            index = np.asarray(options["start"])
            if index.shape != (n,) or index.min() < 0 or index.max() >= len(self.starts):
                raise UserError(
                    f"start: got {options['start']}, expected {n} numbers from 0 to "
                    f"{len(self.starts) - 1}, one for each row that begins"
                )
        else:
            task = options.get("task")
            among = asking_for(task, self.starts, self.data_spec) if task else self._eligible
            index = among[[self._draws[i].integers(len(among)) for i in rows]]
        return self.starts.take(index)

    def _rows(self, mask: Any) -> np.ndarray:
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != bool:
            raise UserError(
                f"reset_mask: got {mask.dtype} {mask.shape}, expected bool ({self.num_envs},)"
            )
        if self._world is None and not mask.all():
            raise UserError("reset_mask: the first reset must begin all rows")
        return np.flatnonzero(mask)


class ImaginedEnv(gymnasium.Env):
    """One world of an :class:`ImaginedVectorEnv` as a plain `gymnasium.Env`; the same arguments.

    It never begins anew by itself, and the horizon is Gymnasium's `TimeLimit`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self, checkpoint: str | Path | WorldModel = "pick_can_tiny",
        starts: str | Path | Starts | None = None, reward: Reward = "dense",
        flow_steps: int | None = None, device: str = "auto", render_mode: str | None = None,
        render_size: int = 256, task: str | None = None,
    ) -> None:  # fmt: skip
        self._one = ImaginedVectorEnv(
            1, checkpoint, starts, NEVER, reward, flow_steps, AutoresetMode.DISABLED, device,
            render_mode, render_size, task,
        )  # fmt: skip
        self.observation_space = self._one.single_observation_space
        self.action_space = self._one.single_action_space
        self.render_mode, self.data_spec = render_mode, self._one.data_spec
        self.metadata = {**self.metadata, "render_fps": self._one.metadata["render_fps"]}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        given = (options or {}).items()
        options = {k: v if k == "task" else np.asarray(v)[None] for k, v in given}
        obs, info = self._one.reset(seed=seed, options=options)
        return {k: v[0] for k, v in obs.items()}, info

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        self._one._over[:] = False  # a plain env may be stepped past its end
        obs, reward, terminated, truncated, info = self._one.step(np.asarray(action)[None])
        info = {k: v[0].item() for k, v in info.items() if not k.startswith("_")}
        return (
            {k: v[0] for k, v in obs.items()}, float(reward[0]), bool(terminated[0]),
            bool(truncated[0]), info,
        )  # fmt: skip

    def render(self) -> np.ndarray | None:
        frames = self._one.render()
        return None if frames is None else frames[0]
