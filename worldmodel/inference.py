"""A trained model in use: remember a step once, then read leaves against its keys and values.

Letters as in :mod:`worldmodel.model`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from worldmodel.flow import flow_times, integrate
from worldmodel.layers import Cache
from worldmodel.memory import Memory
from worldmodel.model import WorldModel
from worldmodel.transformer import When, Where


def new_memory(model: WorldModel, batch: int, window: int | None = None) -> Memory:
    """An empty memory of ``window`` steps (None: the W that the model was trained with)."""
    trunk, device = model.config.trunk, model.grid.device
    kind = device.type
    fast = torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if fast else torch.float32
    return Memory.empty(
        batch, window or model.config.window, model.patches + 2,
        max(model.patches + 2, model.config.chunk), trunk.depth, trunk.heads,
        trunk.width // trunk.heads, dtype, device,
    )  # fmt: skip


def _remember(
    model: WorldModel, kind: str, x: Tensor, time: Tensor, memory: Memory, at: int
) -> None:
    """Run (B, S, D) tokens of the latest step at flow time (B,), or (1,) for all rows, and keep
    them at place ``at``. They read what is visible in the memory, and each other."""
    S = x.shape[1]
    memory.visible[:, at : at + S] = True
    table, mask = model.rope_at(kind, S, memory.clock), memory.visible[:, None]
    model.trunk(x, time[:, None], table, mask, memory.caches, at, remember=True)


@torch.no_grad()
def remember_obs(
    model: WorldModel, memory: Memory, patches: Tensor, proprio: Tensor, time: Tensor
) -> None:
    """Go on to the next step, whose observation is (B, N, Q), (B, P) at flow time (B,)."""
    x, maps = model.embed_observation(patches[:, None], proprio[:, None])
    memory.look(patches, proprio, x[:, 0], maps)
    _remember(model, "obs", x[:, 0], time, memory, memory.open_step())


@torch.no_grad()
def remember_act(model: WorldModel, memory: Memory, action: Tensor, time: Tensor) -> None:
    """The latest step's normalised action (B, A), known (time 0) or absent (noise, time 1)."""
    memory.act = model.embed_action(action) + model.kind["act"]
    memory.state = torch.cat([memory.proprio, action * (1 - time[:, None])], dim=-1)
    _remember(model, "act", memory.act[:, None], time, memory, memory.action_place)


def moments(model: WorldModel, times: Sequence[float], device: torch.device) -> list[When]:
    """What tokens that are all at one of these flow times are given of it, for each of them."""
    time = torch.cat([torch.full((1,), t, device=device) for t in times])
    parts = (part[:, None, None].unbind() for part in model.trunk.modulate(time))
    return [When.of(*row) for row in zip(*parts, strict=True)]


def reader(
    model: WorldModel, kind: str, tokens: int, times: Sequence[float], memory: Memory
) -> Callable[[Tensor, float], Tensor]:
    """What reads a leaf of the latest step: (B, S, D) tokens at one of these flow times -> trunk
    output. All that does not depend on what they say is made here, for all times at once.

    A leaf stands behind the ring. It reads what is visible there, and itself; what comes does not
    see it.
    """
    trunk, visible = model.trunk, memory.visible
    mask = torch.cat([visible, visible.new_ones(len(visible), tokens)], dim=1)[:, None]
    whens = dict(zip(times, moments(model, times, visible.device), strict=True))
    table = model.rope_at(kind, tokens, memory.clock)
    where = Where.of(table, mask, whens[times[0]].scale.dtype)

    def read(x: Tensor, t: float) -> Tensor:
        return trunk.run(x, whens[t], where, memory.caches, memory.ring)[0]

    return read


@torch.no_grad()
def sample_plan(
    model: WorldModel, patches: Tensor, proprio: Tensor, noise: Tensor, steps: int
) -> Tensor:
    """Denoise (B, H, A) noise into the action chunk from an observation (B, N, Q), (B, P), in env
    units. Nothing before it is looked at, so nothing is masked."""
    (B, H), S, device = noise.shape[:2], model.patches + 1, noise.device
    times = flow_times(steps)[:-1]
    now, *later = moments(model, [0.0, *times], device)
    whens, dtype, zero = dict(zip(times, later, strict=True)), now.scale.dtype, noise.new_zeros(())
    here, ahead = (
        Where.of(model.rope_at(kind, tokens, zero), None, dtype)
        for kind, tokens in (("obs", S), ("plan", H))
    )
    trunk = model.trunk.config
    room = (2, B, trunk.heads, S + H, trunk.width // trunk.heads)
    caches = [Cache(*torch.empty(room, dtype=dtype, device=device)) for _ in range(trunk.depth)]
    x, _ = model.embed_observation(patches[:, None], proprio[:, None])
    obs = x[:, 0]
    model.trunk.run(obs, now, here, caches, remember=True)

    def predict(x: Tensor, t: float) -> Tensor:
        out, _ = model.trunk.run(model.embed_plan(x, obs), whens[t], ahead, caches, S)
        return model.read_action(out).float()

    return model.action_scale.inverse(integrate(predict, noise, steps)).clamp(-1.0, 1.0)


def denoiser(
    model: WorldModel, memory: Memory, latest: Tensor, times: Sequence[float]
) -> Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]:
    """From a noisy next observation (B, N, Q), (B, P) at one of these flow times to the clean one
    in it."""
    motion, robot, pose = model.expect(memory.state[:, None])
    sights = model.sights(
        model.view(latest[:, None], memory.maps),
        model.view(memory.first[:, None], memory.first_maps),
        model.view_body(pose[:, 0]), memory.proprio, memory.first_proprio, pose[:, 0],
    )  # fmt: skip
    obs, act = memory.obs[:, None], memory.act[:, None]
    glance = model.paint.look(sights)
    read = reader(model, "next", model.patches + 1, times, memory)

    def denoise(patches: Tensor, change: Tensor, t: float) -> tuple[Tensor, Tensor]:
        tokens = model.embed_next(patches[:, None], change[:, None], obs, act, robot)[:, 0]
        out = read(tokens, t)[:, None]
        pictures = model.paint.draw(model.tokens_of_cameras(out), sights, glance)
        return model.unview(pictures, len(out))[:, 0], model.correct_change(out, motion)[:, 0]

    return denoise


@torch.no_grad()
def sample_next(
    model: WorldModel, memory: Memory, latest: Tensor, noise: tuple[Tensor, Tensor], steps: int,
    method: Literal["euler", "heun"] = "euler",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Denoise what follows the latest action: patches (B, N, Q) and change of proprio (B, P).

    ``latest`` (B, N, Q) is the clean observation before it. The change is in env units.
    """
    B, N, Q = latest.shape
    denoise = denoiser(model, memory, latest, flow_times(steps)[:-1])

    def predict(x: Tensor, t: float) -> Tensor:
        patches, change = denoise(x[:, : N * Q].view(B, N, Q), x[:, N * Q :], t)
        return torch.cat([patches.flatten(1), change], dim=1)

    x = integrate(predict, torch.cat([noise[0].flatten(1), noise[1]], 1), steps, method)
    return x[:, : N * Q].view(B, N, Q), model.change_scale.inverse(x[:, N * Q :])


@torch.no_grad()
def read_outcomes(model: WorldModel, memory: Memory) -> Tensor:
    """(B, 5) what the outcome leaf reads at the latest observation: leaves.READINGS, as
    probabilities where they are probabilities."""
    x = model.kind["outcome"].expand(len(memory.visible), 1, -1)
    token = reader(model, "outcome", 1, [0.0], memory)(x, 0.0)[:, 0]
    out = model.read_outcome(token).float() * model.outcome_units
    success, reward, terminated, value = out.unbind(-1)
    strayed = (token.float() * model.doubt[:-1]).sum(-1) + model.doubt[-1]
    return torch.stack(
        [success.sigmoid(), reward, terminated.sigmoid(), value, strayed.sigmoid()], dim=-1
    )
