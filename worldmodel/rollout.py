"""Imagining: denoise the next observation, append it to the context, slide the window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from worldmodel.flow import interpolate
from worldmodel.model import WorldModel, clean_context


@dataclass(frozen=True)
class RolloutConfig:
    flow_steps: int = field(default=8, metadata={"help": "K, denoising steps per observation"})
    method: Literal["euler", "heun"] = field(default="euler", metadata={"help": "sampler"})
    context_noise: float = field(
        default=0.05, metadata={"help": "flow time of generated observations once they are context"}
    )


class Rollout(NamedTuple):
    """What was imagined, in env units; entry n is o_{n+1} after action n."""

    images: Tensor  # (B, steps, C, h, w, 3) uint8
    proprio: Tensor  # (B, steps, P)
    action: Tensor  # (B, steps, A)


#: (step, images (B, C, h, w, 3) uint8, proprio (B, P)) -> actions (B, A) in [-1, 1]
Actor = Callable[[int, Tensor, Tensor], Tensor]


@torch.no_grad()
def rollout(
    model: WorldModel, images: Tensor, proprio: Tensor, act: Actor, steps: int,
    config: RolloutConfig, generator: torch.Generator,
) -> Rollout:  # fmt: skip
    """Imagine ``steps`` steps from one real observation: uint8 (B, C, h, w, 3) and (B, P).

    ``act`` chooses every action: from a recording (forward dynamics), or from what is imagined (a
    policy in the loop). The context is the last W steps; generated ones are re-noised slightly, as
    the model was trained to expect.
    """
    device, W = model.grid.device, model.config.window
    patches, normal = model.observe(images.to(device), proprio.to(device))
    B = len(patches)
    context = [(patches, normal, 0.0)]
    actions: list[Tensor] = []
    seen: list[tuple[Tensor, Tensor]] = []
    latest = images.to(device), proprio.to(device)
    for n in range(steps):
        actions.append(act(n, *latest).to(device))
        context, window = context[-W:], actions[-W:]
        T = len(context)
        blank = clean_context(
            model, latest[0][:, None].expand(-1, T, -1, -1, -1, -1),
            latest[1][:, None].expand(-1, T, -1), torch.stack(window[-T:], dim=1),
        )  # fmt: skip
        memory = model.encode(
            blank._replace(
                patches=torch.stack([c[0] for c in context], dim=1),
                proprio=torch.stack([c[1] for c in context], dim=1),
                obs_time=torch.tensor([c[2] for c in context], device=device).expand(B, T),
            ),
            acted=True,
        )
        noise = [torch.randn(x.shape, generator=generator).to(device) for x in (patches, normal)]
        new = model.sample_next(memory, (noise[0], noise[1]), config.flow_steps, config.method)
        latest = model.show(*new)
        seen.append(latest)
        t = torch.tensor(config.context_noise, device=device)
        fresh = [torch.randn(x.shape, generator=generator).to(device) for x in new]
        context.append((*(interpolate(x, e, t) for x, e in zip(new, fresh, strict=True)), float(t)))
    return Rollout(
        torch.stack([s[0] for s in seen], dim=1),
        torch.stack([s[1] for s in seen], dim=1),
        torch.stack(actions, dim=1),
    )
