"""The world model: one trunk over a clean context stream, and leaves denoised against it.

Letters: B batch, T env steps, M plan leaves per step, H chunk, A action, P proprioception,
N patches per observation (all cameras), Q numbers per patch, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from worldmodel.flow import integrate
from worldmodel.layers import KeyValue, rope
from worldmodel.masks import Group, attention_mask, layout, window_start
from worldmodel.normalize import Affine, float_to_images, images_to_float
from worldmodel.spec import DataSpec
from worldmodel.tokens import ObservationEmbedding, grid_positions, patchify, unpatchify
from worldmodel.transformer import TransformerConfig, Trunk

#: what the outcome leaf reads at o_n, in this order
OUTCOMES = ("success", "reward", "terminated", "value")


@dataclass(frozen=True)
class ModelConfig:
    name: str = field(default="tiny", metadata={"help": "name of the size"})
    trunk: TransformerConfig = field(default_factory=TransformerConfig)
    patch: int = field(default=16, metadata={"help": "side of a square patch in pixels"})
    window: int = field(default=4, metadata={"help": "W, env steps that a token can see"})
    chunk: int = field(default=8, metadata={"help": "H, actions in a plan"})


class Context(NamedTuple):
    """The clean (or nearly clean) past, normalised."""

    patches: Tensor  # (B, T, N, Q)
    proprio: Tensor  # (B, T, P)
    obs_time: Tensor  # (B, T) flow time of each observation, 0 = clean
    action: Tensor  # (B, T, A) executed actions (noise where absent)
    act_time: Tensor  # (B, T) 0 = known, 1 = absent
    first: Tensor  # (B, T) first step visible from each step


class Leaves(NamedTuple):
    """Noisy tokens to be denoised, normalised, and their flow times."""

    next_steps: tuple[int, ...]  # the J steps n whose o_{n+1} is denoised
    next_patches: Tensor  # (B, J, N, Q)
    next_proprio: Tensor  # (B, J, P)
    next_time: Tensor  # (B, J, N + 1)
    plan: Tensor  # (B, T, M, H, A)
    plan_time: Tensor  # (B, T, M, H)
    inverse: Tensor  # (B, T - 1, A)
    inverse_time: Tensor  # (B, T - 1)


class Prediction(NamedTuple):
    """Clean data x_hat as predicted for every leaf, and the outcome read-out."""

    next_patches: Tensor  # (B, J, N, Q)
    next_proprio: Tensor  # (B, J, P)
    plan: Tensor  # (B, T, M, H, A)
    inverse: Tensor  # (B, T - 1, A)
    outcome: Tensor  # (B, T, 4) logit, reward, logit, value: OUTCOMES


class Features(NamedTuple):
    """Hidden states of the noisy leaves, for the representation loss."""

    next: Tensor  # (B, J, N + 1, D)
    plan: Tensor  # (B, T, M H, D)


class Memory(NamedTuple):
    """Keys and values of a context, per layer: what a leaf or a new step reads."""

    past: list[KeyValue]
    steps: int  # env steps in it
    acted: bool  # whether the last step's action is in it


class WorldModel(nn.Module):
    """One transformer that plans actions and predicts what follows from them."""

    def __init__(self, spec: DataSpec, config: ModelConfig) -> None:
        super().__init__()
        h, w = spec.image_size
        if h % config.patch or w % config.patch:
            raise ValueError(
                f"image size {h}x{w} is not divisible by the patch {config.patch}: "
                "choose another patch or image size"
            )
        self.spec, self.config = spec, config
        D, P, A = config.trunk.width, spec.P, spec.A
        self.patches = len(spec.cameras) * (h // config.patch) * (w // config.patch)
        Q = 3 * config.patch**2
        self.proprio_scale = Affine(spec.proprio_stats.mean, spec.proprio_stats.std)
        self.action_scale = Affine(spec.action_stats.mean, spec.action_stats.std)
        self.embed_obs = ObservationEmbedding(len(spec.cameras), (h, w), config.patch, P, D)
        self.embed_action = nn.Sequential(
            nn.Linear(A, D), nn.GELU(approximate="tanh"), nn.Linear(D, D)
        )
        kinds = ("obs", "act", "next", "plan", "outcome", "inverse")
        self.kind = nn.ParameterDict({k: nn.Parameter(0.02 * torch.randn(D)) for k in kinds})
        self.chunk_place = nn.Parameter(0.02 * torch.randn(config.chunk, D))
        self.trunk = Trunk(config.trunk)
        self.read_patch = nn.Linear(D, Q)
        self.read_proprio = nn.Linear(D, P)
        self.read_action = nn.Linear(D, A)
        self.read_outcome = nn.Linear(D, len(OUTCOMES))
        for layer in (self.read_patch, self.read_proprio, self.read_action, self.read_outcome):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        grid = grid_positions(len(spec.cameras), (h, w), config.patch)
        self.register_buffer("grid", grid, persistent=False)

    # ---- between env and model -------------------------------------------------------------

    def observe(self, images: Tensor, proprio: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (..., C, h, w, 3) and (..., P) -> patches (..., N, Q) and normalised proprio."""
        return patchify(images_to_float(images), self.config.patch), self.proprio_scale(proprio)

    def show(self, patches: Tensor, proprio: Tensor) -> tuple[Tensor, Tensor]:
        """Inverse of :meth:`observe`."""
        images = unpatchify(
            patches, len(self.spec.cameras), self.spec.image_size, self.config.patch
        )
        return float_to_images(images), self.proprio_scale.inverse(proprio)

    # ---- token assembly --------------------------------------------------------------------

    def _positions(self, groups: list[Group]) -> Tensor:
        """(S, 3) positions on (step, row, column); action j of a plan stands at step n + j."""
        rows = []
        for kind, step, tokens in groups:
            place = torch.zeros(tokens, 3, dtype=torch.long, device=self.grid.device)
            place[:, 0] = step
            if kind in ("obs", "next"):
                place[:, 0] += kind == "next"
                place[:, 1:] = self.grid
            elif kind == "plan":
                place[:, 0] += torch.arange(tokens, device=place.device)
            rows.append(place)
        return torch.cat(rows)

    def _rope(self, groups: list[Group]):
        trunk = self.config.trunk
        return rope(self._positions(groups), trunk.width // trunk.heads)

    def _embed_obs(self, kind: str, patches: Tensor, proprio: Tensor) -> Tensor:
        """(B, T, N, Q), (B, T, P) -> (B, T, N + 1, D)."""
        B, T = patches.shape[:2]
        x = self.embed_obs(patches.flatten(0, 1), proprio.flatten(0, 1))
        return x.unflatten(0, (B, T)) + self.kind[kind]

    def _embed_plan(self, plan: Tensor) -> Tensor:
        """(..., H, A) -> (..., H, D)."""
        return self.embed_action(plan) + self.kind["plan"] + self.chunk_place

    def _context_tokens(self, c: Context) -> tuple[Tensor, Tensor]:
        """Tokens (B, T, N + 2, D) of obs and act per step, and their times (B, T, N + 2)."""
        obs = self._embed_obs("obs", c.patches, c.proprio)
        act = self.embed_action(c.action) + self.kind["act"]
        time = torch.cat(
            [c.obs_time[..., None].expand(-1, -1, self.patches + 1), c.act_time[..., None]], dim=-1
        )
        return torch.cat([obs, act[:, :, None].to(obs.dtype)], dim=2), time

    # ---- training: a whole segment and all of its leaves in one pass -------------------------

    def forward(
        self, context: Context, leaves: Leaves, feature_layer: int | None = None,
        stop: bool = False,
    ) -> tuple[Prediction | None, Features | None]:  # fmt: skip
        """Predict the clean data of every leaf; with ``stop`` only features are computed."""
        B, T, M, H = leaves.plan.shape[:4]
        N1, J = self.patches + 1, len(leaves.next_steps)
        tokens, time = self._context_tokens(context)
        nxt = self._embed_obs("next", leaves.next_patches, leaves.next_proprio)
        plan = self._embed_plan(leaves.plan)
        outcome = self.kind["outcome"].expand(B, T, -1)
        inverse = self.embed_action(leaves.inverse) + self.kind["inverse"]
        groups = [g for n in range(T) for g in (Group("obs", n, N1), Group("act", n, 1))]
        groups += [Group("next", n, N1) for n in leaves.next_steps]
        groups += [Group("plan", n, H) for n in range(T) for _ in range(M)]
        groups += [Group("outcome", n, 1) for n in range(T)]
        groups += [Group("inverse", n, 1) for n in range(1, T)]
        parts = [tokens.flatten(1, 2), nxt.flatten(1, 2), plan.flatten(1, 3), outcome, inverse]
        x = torch.cat([p.to(tokens.dtype) for p in parts], dim=1)
        times = torch.cat(
            [time.flatten(1), leaves.next_time.flatten(1), leaves.plan_time.flatten(1),
             time.new_zeros(B, T), leaves.inverse_time], dim=1,
        )  # fmt: skip
        mask = attention_mask(layout(groups, self.grid.device), context.first)
        x, _, features = self.trunk(
            x, times, self._rope(groups), mask, feature_layer=feature_layer, stop=stop
        )
        sizes = [T * (N1 + 1), J * N1, T * M * H, T, T - 1]
        if features is not None:
            _, f_next, f_plan, _, _ = features.split(sizes, dim=1)
            features = Features(f_next.unflatten(1, (J, N1)), f_plan.unflatten(1, (T, M * H)))
        if stop:
            return None, features
        _, nxt, plan, outcome, inverse = x.split(sizes, dim=1)
        nxt = nxt.unflatten(1, (J, N1))
        prediction = Prediction(
            self.read_patch(nxt[:, :, :-1]).float(),
            self.read_proprio(nxt[:, :, -1]).float(),
            self.read_action(plan).float().unflatten(1, (T, M, H)),
            self.read_action(inverse).float(),
            self.read_outcome(outcome).float(),
        )
        return prediction, features

    # ---- use: context once, then leaves against its keys and values --------------------------

    def encode(self, context: Context, acted: bool) -> Memory:
        """Keys and values of a context whose steps all see ``context.first`` onwards.

        ``acted=False`` leaves the last step's act token out, as a plan must not see it.
        """
        tokens, time = self._context_tokens(context)
        T, per_step = tokens.shape[1:3]
        groups = [g for n in range(T) for g in (Group("obs", n, per_step - 1), Group("act", n, 1))]
        S = T * per_step - (0 if acted else 1)
        groups = groups if acted else groups[:-1]
        mask = attention_mask(layout(groups, self.grid.device), context.first)
        _, past, _ = self.trunk(
            tokens.flatten(1, 2)[:, :S], time.flatten(1)[:, :S], self._rope(groups), mask
        )
        return Memory(past, T, acted)

    def _read_leaf(self, kind: str, tokens: Tensor, t: float, memory: Memory) -> Tensor:
        """Run one leaf of the memory's last step: (B, S, D) tokens at time t -> trunk output."""
        groups = [Group(kind, memory.steps - 1, tokens.shape[1])]
        time = torch.full(tokens.shape[:2], t, device=tokens.device)
        out, _, _ = self.trunk(tokens, time, self._rope(groups), past=memory.past)
        return out

    def sample_plan(self, memory: Memory, noise: Tensor, steps: int) -> Tensor:
        """Denoise (B, H, A) noise into the action chunk from the memory's last step, env units."""

        def predict(x: Tensor, t: float) -> Tensor:
            return self.read_action(self._read_leaf("plan", self._embed_plan(x), t, memory)).float()

        plan = integrate(predict, noise, steps)
        return self.action_scale.inverse(plan).clamp(-1.0, 1.0)

    def sample_next(
        self, memory: Memory, noise: tuple[Tensor, Tensor], steps: int, method: str = "euler"
    ) -> tuple[Tensor, Tensor]:
        """Denoise the observation after the last action: patches (B, N, Q), proprio (B, P)."""
        patch_noise, proprio_noise = noise
        B, N, Q = patch_noise.shape

        def predict(x: Tensor, t: float) -> Tensor:
            patches, proprio = x[:, : N * Q].view(B, 1, N, Q), x[:, None, N * Q :]
            tokens = self._embed_obs("next", patches, proprio)[:, 0]
            out = self._read_leaf("next", tokens, t, memory)
            parts = [self.read_patch(out[:, :-1]).flatten(1), self.read_proprio(out[:, -1])]
            return torch.cat(parts, dim=1).float()

        x = integrate(predict, torch.cat([patch_noise.flatten(1), proprio_noise], 1), steps, method)
        return x[:, : N * Q].view(B, N, Q), x[:, N * Q :]

    def read_outcomes(self, memory: Memory) -> Tensor:
        """(B, 4) what the outcome leaf reads at the memory's last observation: OUTCOMES, as
        probabilities where they are probabilities."""
        B = memory.past[0][0].shape[0]
        x = self.kind["outcome"].expand(B, 1, -1)
        out = self.read_outcome(self._read_leaf("outcome", x, 0.0, memory)[:, 0]).float()
        success, reward, terminated, value = out.unbind(-1)
        return torch.stack([success.sigmoid(), reward, terminated.sigmoid(), value], dim=-1)


def clean_context(model: WorldModel, images: Tensor, proprio: Tensor, action: Tensor) -> Context:
    """A context of known steps: uint8 (B, T, C, h, w, 3), (B, T, P) and actions (B, T, A)."""
    patches, normal = model.observe(images, proprio)
    B, T = normal.shape[:2]
    zeros = normal.new_zeros(B, T)
    first = window_start(T, model.config.window).to(zeros.device).expand(B, T)
    return Context(patches, normal, zeros, model.action_scale(action), zeros, first)
