"""The world model: one trunk over a clean context stream, and leaves denoised against it.

Letters: B batch, T env steps, M plan leaves per step, H chunk, A action, P proprioception,
N patches per observation (all cameras), Q numbers per patch, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from einops import rearrange
from torch import Tensor, nn

from worldmodel.body import Body
from worldmodel.cameras import Cameras
from worldmodel.layers import Rope, rope, rope_frequency
from worldmodel.leaves import OUTCOMES, Context, Features, Leaves, Prediction
from worldmodel.masks import Group, Layout, attention_mask, layout, positions
from worldmodel.normalize import MIN_CHANGE_STD, Affine, float_to_images, images_to_float
from worldmodel.painter import Painter
from worldmodel.sights import Sights, View, gather
from worldmodel.spec import DataSpec
from worldmodel.tokens import (
    WAVES,
    ObservationEmbedding,
    embed_vector,
    grid_positions,
    patchify,
    unpatchify,
    waves,
)
from worldmodel.transformer import TransformerConfig, Trunk

ARRANGEMENTS = 32  # of a segment's tokens, that are kept
NEVER = -20.0  # logit of a chance that rounds to none


@dataclass(frozen=True)
class ModelConfig:
    name: str = field(default="tiny", metadata={"help": "name of the size"})
    trunk: TransformerConfig = field(default_factory=TransformerConfig)
    patch: int = field(default=16, metadata={"help": "side of a square patch in pixels"})
    window: int = field(default=4, metadata={"help": "W, env steps that a token can see"})
    chunk: int = field(default=8, metadata={"help": "H, actions in a plan"})
    correct: tuple[str, ...] | None = field(
        default=None,
        metadata={
            "help": "numbers of proprioception in which the trunk corrects the robot's own motion "
            "(none: all; training chooses them at its end)"
        },
    )
    reward_unit: float = field(
        default=1.0,
        metadata={
            "help": "size of a small reward: the outcome leaf counts in it (1: as in checkpoints "
            "of before it could be chosen)"
        },
    )

    def __post_init__(self) -> None:
        if not self.reward_unit > 0:
            raise ValueError(f"reward_unit: got {self.reward_unit}, expected a positive number")


class WorldModel(nn.Module):
    """One transformer that plans actions and predicts what follows from them."""

    grid: Tensor
    frequency: Tensor
    corrected: Tensor
    outcome_units: Tensor
    doubt: Tensor

    def __init__(self, spec: DataSpec, config: ModelConfig) -> None:
        super().__init__()
        h, w = spec.image_size
        if h % config.patch or w % config.patch:
            raise ValueError(
                f"image size {h}x{w} is not divisible by the patch {config.patch}: "
                "choose another patch or image size"
            )
        if not (spec.proprio_stats and spec.change_stats and spec.action_stats):
            raise ValueError(
                "the spec has no statistics of proprioception, its changes or actions, by which a "
                "model normalises; take the spec of a dataset"
            )
        self.spec, self.config = spec, config
        D, P, A = config.trunk.width, spec.P, spec.A
        self.patches = len(spec.cameras) * (h // config.patch) * (w // config.patch)
        self.proprio_scale = Affine(spec.proprio_stats.mean, spec.proprio_stats.std)
        self.change_scale = Affine(spec.change_stats.mean, spec.change_stats.std, MIN_CHANGE_STD)
        self.action_scale = Affine(spec.action_stats.mean, spec.action_stats.std)
        self.embed_obs = ObservationEmbedding(len(spec.cameras), (h, w), config.patch, D)
        self.embed_proprio = embed_vector(P, D)
        self.embed_change = embed_vector(P, D)
        self.embed_action = embed_vector(A, D)
        kinds = ("obs", "act", "next", "plan", "outcome", "inverse")
        self.kind = nn.ParameterDict({k: nn.Parameter(0.02 * torch.randn(D)) for k in kinds})
        self.chunk_place = nn.Parameter(0.02 * torch.randn(config.chunk, D))
        self.trunk = Trunk(config.trunk)
        channels = self.embed_obs.stem.channels
        self.paint = Painter((h, w), config.patch, D, channels)
        self.cameras = Cameras(spec)
        self.body = Body(spec, self.cameras, config.patch, D, channels)
        # how the robot itself moves, from its own numbers: what the trunk reads is added to it
        self.motion = nn.Sequential(
            nn.Linear(P + A, D), nn.GELU(approximate="tanh"), nn.Linear(D, D),
            nn.GELU(approximate="tanh"), nn.Linear(D, P),
        )  # fmt: skip
        self.embed_motion = embed_vector(2 * P + A + 2 * WAVES * P, D)
        self.read_change = nn.Linear(D, P)
        names = spec.proprio_names if config.correct is None else config.correct
        if unknown := [name for name in names if name not in spec.proprio_names]:
            raise ValueError(f"model.correct: got {unknown}, expected some of {spec.proprio_names}")
        corrected = torch.tensor([float(name in names) for name in spec.proprio_names])
        self.register_buffer("corrected", corrected, persistent=False)
        self.read_action = nn.Linear(D, A)
        self.read_outcome = nn.Linear(D, len(OUTCOMES))
        units = torch.tensor([config.reward_unit if n == "reward" else 1.0 for n in OUTCOMES])
        self.register_buffer("outcome_units", units, persistent=False)
        for layer in (self.read_change, self.read_action, self.read_outcome):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        # weights and bias; none until they are fitted, on a trunk that stays (docs/outcome.py)
        self.register_buffer("doubt", torch.zeros(D + 1))
        self.trust()
        grid = grid_positions(len(spec.cameras), (h, w), config.patch)
        self.register_buffer("grid", grid, persistent=False)
        frequency = rope_frequency(D // config.trunk.heads)
        self.register_buffer("frequency", frequency, persistent=False)
        self._arrangements: dict[tuple, tuple[Layout, Rope]] = {}
        self._angles: dict[tuple, Tensor] = {}

    def trust(self) -> None:
        """Doubt nothing that is imagined. So begins a new model, and one whose trunk is trained on:
        doubt is fitted on the trunk as it is."""
        self.doubt.zero_()
        self.doubt[-1] = NEVER

    # ---- between env and model -------------------------------------------------------------

    def observe(self, images: Tensor, proprio: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (..., C, h, w, 3) and (..., P) -> patches (..., N, Q) and normalised proprio."""
        return patchify(images_to_float(images), self.config.patch), self.proprio_scale(proprio)

    def show(self, patches: Tensor) -> Tensor:
        """Patches (..., N, Q) as pictures uint8 (..., C, h, w, 3); inverse of :meth:`observe`."""
        cameras, size = len(self.spec.cameras), self.spec.image_size
        return float_to_images(unpatchify(patches, cameras, size, self.config.patch))

    # ---- token assembly --------------------------------------------------------------------

    def rope(self, groups: list[Group]) -> Rope:
        """Rotary positions of these groups."""
        return rope(positions(groups, self.grid).double() @ self.frequency)

    def rope_at(self, kind: str, tokens: int, step: Tensor) -> Rope:
        """Rotary positions of one group at an env step ()."""
        key = kind, tokens, self.grid.device
        if key not in self._angles:  # never given up: captured CUDA graphs read them
            place = positions([Group(kind, 0, tokens)], self.grid)
            self._angles[key] = place.double() @ self.frequency
        return rope(self._angles[key] + step * self.frequency[0])

    def _arranged(self, groups: list[Group]) -> tuple[Layout, Rope]:
        """Where each token of a segment stands, for masks and as rotary positions; the same few
        arrangements come again and again."""
        key = *groups, self.grid.device
        if key not in self._arrangements:
            if len(self._arrangements) == ARRANGEMENTS:
                self._arrangements.clear()
            self._arrangements[key] = layout(groups, self.grid.device), self.rope(groups)
        return self._arrangements[key]

    def embed_observation(self, patches: Tensor, proprio: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, T, N, Q), (B, T, P) -> (B, T, N + 1, D), and the stem's maps (B, T, C, c, h', w')."""
        x, maps = self.embed_obs(patches.flatten(0, 1), self.embed_proprio(proprio).flatten(0, 1))
        lead = patches.shape[:2]
        return x.unflatten(0, lead) + self.kind["obs"], [m.unflatten(0, lead) for m in maps]

    def expect_pose(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """From the state (..., P + A) alone, proprioception and action: the change (..., P) that
        the robot will make, and the pose (..., P) that it takes. All normalised."""
        with torch.autocast(state.device.type, enabled=False):  # errors would add up to a drift
            motion = self.motion(state.float())
        proprio = self.proprio_scale.inverse(state[..., : self.spec.P])
        return motion, self.proprio_scale(proprio + self.change_scale.inverse(motion))

    def expect(self, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same of (B, J, P + A), and between them an embedding (B, J, D) of both. The motion
        has a loss of its own; what makes use of it does not change it."""
        motion, pose = (x.detach() for x in self.expect_pose(state))
        robot = self.embed_motion(torch.cat([state, motion, waves(pose)], dim=-1))
        return motion, robot, pose

    def embed_next(
        self, patches: Tensor, change: Tensor, obs: Tensor, act: Tensor, robot: Tensor
    ) -> Tensor:
        """(B, J, N, Q), (B, J, P), the tokens of o_n (B, J, N + 1, D) and a_n (B, J, D), and where
        the robot is and will be (B, J, D) -> tokens (B, J, N + 1, D).

        Each token begins with what stands in its place now, with what is done, and with where the
        robot will be: dynamics are learned several times faster than where attention has to find
        it all (docs/log.md).
        """
        x, _ = self.embed_obs(patches.flatten(0, 1), self.embed_change(change).flatten(0, 1))
        x = x.unflatten(0, patches.shape[:2]) + self.kind["next"] + obs + act[..., None, :]
        return x + robot[..., None, :]

    def view(self, patches: Tensor, maps: list[Tensor]) -> View:
        """(B, J, N, Q) and the stem's maps (B, J, C, c, h', w') of it, camera by camera."""
        C, size = len(self.spec.cameras), self.spec.image_size
        pictures = unpatchify(patches, C, size, self.config.patch)
        pictures = rearrange(pictures, "b j k h w c -> (b j k) c h w")
        return View(pictures, [m.flatten(0, 2) for m in maps])

    def tokens_of_cameras(self, x: Tensor) -> Tensor:
        """Trunk output (B, J, N + 1, D) of a next observation -> (B J C, N / C, D)."""
        return rearrange(x[..., :-1, :], "b j (k n) d -> (b j k) n d", k=len(self.spec.cameras))

    def correct_change(self, x: Tensor, motion: Tensor) -> Tensor:
        """The same and ``motion`` (B, J, P), the change expected from proprioception and action
        alone -> the change (B, J, P)."""
        return motion + self.corrected * self.read_change(x[..., -1, :]).float()

    def unview(self, pictures: Tensor, batch: int) -> Tensor:
        """(B J C, 3, h, w) -> patches (B, J, N, Q)."""
        C = len(self.spec.cameras)
        pictures = rearrange(pictures, "(b j k) c h w -> b j k h w c", b=batch, k=C)
        return patchify(pictures, self.config.patch)

    def view_body(self, pose: Tensor) -> View:
        """Normalised proprioception (M, P) -> the robot in that pose, camera by camera."""
        return self.body(pose, self.proprio_scale.inverse(pose))

    def picture_body(self, pose: Tensor) -> Tensor:
        """The same as patches (M, N, Q)."""
        return self.unview(self.view_body(pose).pictures, len(pose))[:, 0]

    def sights(
        self, latest: View, first: View, body: View, before: Tensor, began: Tensor, pose: Tensor
    ) -> Sights:
        """What may be copied from at ``pose``, with the poses at the latest and at the first
        observation; all (M, P) and normalised."""
        poses = (self.proprio_scale.inverse(p) for p in (before, began, pose))
        return gather(self.cameras, latest, first, body, *poses)

    def embed_plan(self, plan: Tensor, obs: Tensor) -> Tensor:
        """(..., H, A) and the tokens of o_n (..., N + 1, D), of which proprio's is used."""
        x = self.embed_action(plan) + self.kind["plan"] + self.chunk_place
        return x + obs[..., -1:, :]

    def _context_tokens(self, c: Context) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Tokens (B, T, N + 2, D) of obs and act per step, their times (B, T, N + 2), and maps."""
        obs, maps = self.embed_observation(c.patches, c.proprio)
        act = self.embed_action(c.action) + self.kind["act"]
        time = torch.cat(
            [c.obs_time[..., None].expand(-1, -1, self.patches + 1), c.act_time[..., None]], dim=-1
        )
        return torch.cat([obs, act[:, :, None].to(obs.dtype)], dim=2), time, maps

    # ---- training: a whole segment and all of its leaves in one pass -------------------------

    def forward(
        self, context: Context, leaves: Leaves, feature_layer: int | None = None,
        stop: bool = False,
    ) -> tuple[Prediction | None, Features | None]:  # fmt: skip
        """Predict the clean data of every leaf; with ``stop`` only features are computed."""
        B, T, M, H = leaves.plan.shape[:4]
        N1, J = self.patches + 1, len(leaves.next_steps)
        tokens, time, maps = self._context_tokens(context)
        obs, act = tokens[:, :, :-1], tokens[:, :, -1]
        known = context.action * (1 - context.act_time[..., None])
        state = torch.cat([context.proprio, known], dim=-1)[:, leaves.next_steps]
        motion, robot, pose = self.expect(state)
        nxt = tokens[:, :0, :-1]
        if J:  # agents train plans alone, and nothing can be convolved over no pictures
            nxt = self.embed_next(
                leaves.next_patches, leaves.next_change,
                obs[:, leaves.next_steps], act[:, leaves.next_steps], robot,
            )  # fmt: skip
        plan = self.embed_plan(leaves.plan, obs[:, :, None])
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
        places, table = self._arranged(groups)
        mask = attention_mask(places, context.first)
        x, features = self.trunk(x, times, table, mask, feature_layer=feature_layer, stop=stop)
        sizes = [T * (N1 + 1), J * N1, T * M * H, T, T - 1]
        if features is not None:
            _, f_next, f_plan, _, _ = features.split(sizes, dim=1)
            features = Features(f_next.unflatten(1, (J, N1)), f_plan.unflatten(1, (T, M * H)))
        if stop:
            return None, features
        _, nxt, plan, outcome, inverse = x.split(sizes, dim=1)
        picture = painted = leaves.next_patches  # of the right shape where J = 0
        change = leaves.next_change
        if J:
            latest = self.view(leaves.latest, [m[:, leaves.next_steps] for m in maps])
            old = self.embed_obs.maps(leaves.first)
            first = self.view(
                leaves.first[:, None].expand(-1, J, -1, -1),
                [m[:, None].expand(-1, J, *[-1] * 4) for m in old],
            )
            # the body's picture has a loss of its own; what is copied from it does not change it
            pose = pose.flatten(0, 1)
            body = self.view_body(pose)
            seen = View(body.pictures.detach(), [m.detach() for m in body.maps])
            began = leaves.first_proprio[:, None].expand(-1, J, -1).flatten(0, 1)
            latest_proprio = context.proprio[:, leaves.next_steps].flatten(0, 1)
            sights = self.sights(latest, first, seen, latest_proprio, began, pose)
            nxt = nxt.unflatten(1, (J, N1))
            painted = self.unview(self.paint(self.tokens_of_cameras(nxt), sights), B)
            change = self.correct_change(nxt, motion)
            picture = self.unview(body.pictures, B)
        prediction = Prediction(
            painted,
            change,
            picture,
            self.read_action(plan).float().unflatten(1, (T, M, H)),
            self.read_action(inverse).float(),
            self.read_outcome(outcome).float() * self.outcome_units,
        )
        return prediction, features
