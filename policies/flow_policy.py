"""The world model as a policy: plan a chunk of actions from the observation, play, replan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from policies.chunking import ChunkPlayer
from worldmodel import checkpoint
from worldmodel.device import channels_last
from worldmodel.errors import UserError
from worldmodel.inference import sample_plan
from worldmodel.model import WorldModel
from worldmodel.shipped import find_checkpoint
from worldmodel.spec import check_env

if TYPE_CHECKING:
    import gymnasium

    from worldmodel.spec import DataSpec

#: steps played of each plan, and K, unless the caller says otherwise
REPLAN, FLOW_STEPS = 2, 4


class FlowPolicy:
    """Acts in N envs at once. A plan depends on its row's observation, seed and draw alone."""

    def __init__(
        self, model: WorldModel, replan: int | None = None, flow_steps: int | None = None
    ) -> None:
        """Play ``replan`` of a plan's H steps; ``flow_steps`` is K, the denoising steps."""
        self.model = model
        self.replan = REPLAN if replan is None else replan
        self.flow_steps = FLOW_STEPS if flow_steps is None else flow_steps
        chunk = model.config.chunk
        if not 1 <= self.replan <= chunk:
            raise UserError(f"replan: got {self.replan}, expected 1 to {chunk}, the plan's length")
        if self.flow_steps < 1:
            raise UserError(f"flow_steps: got {self.flow_steps}, expected at least 1")
        self._player = ChunkPlayer(self.plan, self.replan)

    @classmethod
    def load(
        cls, path: str | Path, env: gymnasium.Env | None = None, replan: int | None = None,
        flow_steps: int | None = None, device: str = "cpu",
    ) -> FlowPolicy:  # fmt: skip
        """The policy of a checkpoint: its folder, a shipped name, or user/name on the Hub.

        With ``env`` its spaces are checked first: UserError names both sides where they differ.
        """
        model = channels_last(checkpoint.load(find_checkpoint(path)).model.to(device))
        if env is not None:
            check_env(model.spec, env)
        return cls(model, replan, flow_steps)

    @property
    def spec(self) -> DataSpec:
        return self.model.spec

    def reset(self, seeds: Sequence[int], mask: np.ndarray | None = None) -> None:
        """Start new episodes in the rows that ``mask`` (N,) names (None: all), a seed per row."""
        self._player.reset(seeds, mask)

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """Actions float32 (N, A) for observations whose values lead with N."""
        self.check(obs)
        return self._player.act(obs)

    def check(self, obs: dict[str, np.ndarray]) -> None:
        """UserError for observations that the model was not made for."""
        wanted: dict[str, tuple[int, ...]]
        wanted = {name: (*self.spec.image_size, 3) for name in self.spec.cameras}
        wanted["proprio"] = (self.spec.P,)
        for name, shape in wanted.items():
            if name not in obs or obs[name].shape[1:] != shape:
                got = obs[name].shape if name in obs else f"only {sorted(obs)}"
                raise UserError(
                    f"observation '{name}': expected (N, {', '.join(map(str, shape))}), got {got}; "
                    "the policy acts in envs like the one it was trained in"
                )
        if not np.isfinite(obs["proprio"]).all():
            raise UserError("observation 'proprio' has NaN or infinite entries; the env is broken")

    def noise(self, seeds: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """The noise (n, H, A) that the plans of these (seed, draw) are denoised from."""
        H, A = self.model.config.chunk, self.spec.A
        return np.stack([
            np.random.default_rng([abs(int(seed)), int(draw)]).standard_normal((H, A))
            for seed, draw in zip(seeds, draws, strict=True)
        ])  # fmt: skip

    @torch.inference_mode()
    def plan(
        self, obs: dict[str, np.ndarray], rows: np.ndarray, seeds: np.ndarray, draws: np.ndarray
    ) -> np.ndarray:
        """Plans (n, H, A); (seed, draw) names a row's noise, whatever the batch around it."""
        device = self.model.grid.device
        images = np.stack([obs[name] for name in self.spec.cameras], axis=1)
        patches, proprio = self.model.observe(
            torch.from_numpy(images).to(device),
            torch.from_numpy(obs["proprio"].astype(np.float32)).to(device),
        )
        noise = torch.from_numpy(self.noise(seeds, draws)).float().to(device)
        plan = sample_plan(self.model, patches, proprio, noise, self.flow_steps)
        return plan.float().cpu().numpy()
