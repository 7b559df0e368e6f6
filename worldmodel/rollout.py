"""Imagining: denoise the next observation, append it to what is remembered, slide the window.

    world = Imagination(model, images, proprio, generators=generators_from(seed=0, batch=B))
    for n in range(steps):
        images, proprio = world.step(actions[:, n])      # or world.step(None): without actions

Each step costs the same, at any horizon: keys and values of the last W steps wait in a ring buffer
(:mod:`worldmodel.memory`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel.device import autocast, channels_last, pick_device, uses_bf16
from worldmodel.errors import UserError
from worldmodel.flow import interpolate
from worldmodel.graphs import Replayed
from worldmodel.inference import new_memory, read_outcomes, remember_act, remember_obs, sample_next
from worldmodel.layers import RMSNorm
from worldmodel.model import WorldModel


@dataclass(frozen=True)
class RolloutConfig:
    flow_steps: int = field(default=2, metadata={"help": "K, denoising steps per observation"})
    method: Literal["euler", "heun"] = field(default="euler", metadata={"help": "sampler"})
    context_noise: float = field(
        default=0.05,
        metadata={"help": "flow time of generated pictures once they are context (0: none)"},
    )
    window: int | None = field(
        default=None, metadata={"help": "W, steps remembered (none: as the model was trained)"}
    )
    precision: Literal["auto", "fp32", "bf16"] = field(
        default="auto", metadata={"help": "auto: bf16 where the processor has it"}
    )
    device: str = field(default="auto", metadata={"help": "where to imagine: auto, cpu or cuda"})

    def __post_init__(self) -> None:
        if self.flow_steps < 1 or not 0 <= self.context_noise < 1:
            raise ValueError(
                "expected flow_steps >= 1 and context_noise in 0 .. 1 (below 1); got "
                f"{self.flow_steps} and {self.context_noise}"
            )


class Frame(NamedTuple):
    """One imagined step, in env units: o_{n+1}, and the action that led there."""

    images: Tensor  # (B, C, h, w, 3) uint8
    proprio: Tensor  # (B, P)
    action: Tensor | None  # (B, A); None: without actions


def placed(model: WorldModel, config: RolloutConfig) -> WorldModel:
    """The model where ``config`` says it is to imagine, its weights as they are used there: not to
    be trained or saved any more. UserError where there is no such place.

    Where bf16 is asked for, autocast would make it of every weight at every use.
    """
    model = channels_last(model.to(pick_device(config.device)))
    if uses_bf16(model.grid.device, config.precision):
        exact = set(model.motion.modules())
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | RMSNorm) and module not in exact:
                module.to(torch.bfloat16)
    return model


#: (images (B, C, h, w, 3) uint8, proprio (B, P)) -> actions (B, A) in [-1, 1], or None
Actor = Callable[[Tensor, Tensor], Tensor | None]


def generators_from(
    seed: int, batch: int, device: torch.device | str = "cpu"
) -> list[torch.Generator]:
    """A generator for each row, so that a row's noise does not depend on the rows beside it.

    On a GPU many rows want theirs drawn there: it is faster, and other noise than a CPU's.
    """
    seeds = np.random.SeedSequence(seed).generate_state(batch, np.uint64) >> np.uint64(1)
    return [torch.Generator(device).manual_seed(int(s)) for s in seeds]


class Imagination:
    """B worlds inside the model, each going on from a real observation."""

    def __init__(
        self, model: WorldModel, images: Tensor, proprio: Tensor, action: Tensor | None = None, *,
        generators: torch.Generator | Sequence[torch.Generator],
        config: RolloutConfig | None = None,
    ) -> None:  # fmt: skip
        """Begin after n >= 1 known observations and the n - 1 actions between them.

        ``images`` (B, n, C, h, w, 3) uint8, ``proprio`` (B, n, P), ``action`` (B, n - 1, A), or
        without n for one observation. ``generators``: one, or one per row. UserError for anything
        that does not fit the model, or is not finite.
        """
        self.model, self.config = model, config or RolloutConfig()
        if self.config.window is not None and not 1 <= self.config.window <= model.config.window:
            raise UserError(
                f"window: got {self.config.window}, expected 1 to {model.config.window}: the model "
                "was trained to see no further"
            )
        if images.ndim == 5:
            images, proprio = images[:, None], proprio[:, None]
        images, proprio, action = _checked_context(model, images, proprio, action)
        self.device = model.grid.device
        self.batch, n = len(images), images.shape[1]
        self.generators = [generators] if isinstance(generators, torch.Generator) else generators
        self._advanced = Replayed(self._advance, self.device)
        self._read = Replayed(lambda: read_outcomes(model, self.memory), self.device)
        if len(self.generators) not in (1, self.batch):
            raise UserError(
                f"generators: got {len(self.generators)}, expected 1 or one for each of the "
                f"{self.batch} rows"
            )
        with self._context():
            self.memory = new_memory(model, self.batch, self.config.window)
        for k in range(n):
            if k:
                self._act(action[:, k - 1])
            self._look(images[:, k].to(self.device), proprio[:, k].to(self.device))

    def step(self, action: Tensor | None) -> tuple[Tensor, Tensor]:
        """What follows from ``action`` (B, A) in [-1, 1], or, with None, what follows anyhow.

        Returns images (B, C, h, w, 3) uint8 and proprio (B, P). UserError for an action of another
        shape, beyond [-1, 1], or not finite.
        """
        if action is not None:
            action = _checked_action(action, (self.batch, self.model.spec.A))
        act, shape = self._action(action), self.latest.shape[1:]
        noise = self._noise(shape), self._noise(self._proprio.shape[1:])
        blur = self._noise(shape if self.config.context_noise else (0,))
        n = self.memory.step
        with torch.inference_mode():  # what it makes can't be learned through: hence the copy
            images = self._advanced(n % self.memory.window, *act, *noise, blur)
        self.memory.step = n + 1
        return images.clone(), self.proprio

    def observe(self, action: Tensor, images: Tensor, proprio: Tensor) -> None:
        """Go on with what was really seen after ``action`` (B, A), instead of imagining it.

        ``images`` (B, C, h, w, 3) uint8, ``proprio`` (B, P). UserError as elsewhere here.
        """
        images, proprio, _ = _checked_context(self.model, images[:, None], proprio[:, None], None)
        self._act(_checked_action(action, (self.batch, self.model.spec.A)))
        self._look(images[:, 0].to(self.device), proprio[:, 0].to(self.device))

    @torch.no_grad()
    def restart(self, rows: np.ndarray, images: Tensor, proprio: Tensor) -> None:
        """Begin anew in some rows (n,) from one known observation each; the others go on.

        ``images`` (n, C, h, w, 3) uint8, ``proprio`` (n, P). UserError as in the constructor.
        """
        images, proprio, _ = _checked_context(self.model, images[:, None], proprio[:, None], None)
        images, proprio = images[:, 0].to(self.device), proprio[:, 0].to(self.device).float()
        index = torch.from_numpy(np.asarray(rows, np.int64)).to(self.device)
        if len(index) != len(images):
            raise UserError(f"restart: got {len(images)} observations for {len(index)} rows")
        patches, normalised = self.model.observe(images, proprio)
        part = self.memory.forgetful(index)
        with self._context():
            known = torch.zeros(len(index), device=self.device)
            remember_obs(self.model, part, patches, normalised, known)
        self.memory.put(index, part)
        self.latest[index], self._proprio[index] = patches, proprio

    # ------------------------------------------------------------------------------------------

    @property
    def proprio(self) -> Tensor:
        """(B, P) the latest proprioception, in env units."""
        return self._proprio.clone()

    def outcomes(self) -> Tensor:
        """(B, 5) what the model reads at the latest observation: leaves.READINGS."""
        with self._context():
            return self._read("outcomes")

    def show(self) -> Tensor:
        """The latest pictures, uint8 (B, C, h, w, 3)."""
        return self.model.show(self.latest)

    def _context(self):
        return autocast(self.device, self.config.precision)

    def _noise(self, shape: Sequence[int]) -> Tensor:
        """(B, *shape) from the rows' own generators."""
        rows = torch.empty(self.batch, *shape, device=self.generators[0].device)
        parts = rows if len(self.generators) > 1 else [rows]
        for part, generator in zip(parts, self.generators, strict=True):
            part.normal_(generator=generator)
        return rows.to(self.device)

    def _look(self, images: Tensor, proprio: Tensor) -> None:
        """A known observation becomes the latest."""
        patches, _ = self.model.observe(images, proprio)
        if self.memory.step < 0:
            self.latest, self._proprio = patches.clone(), proprio.float().clone()
        else:
            self.latest.copy_(patches)
            self._proprio.copy_(proprio)
        self._remember(self.latest, 0.0)

    def _remember(self, patches: Tensor, t: float) -> None:
        time = torch.full((1,), t, device=self.device)
        with self._context():
            remember_obs(
                self.model, self.memory, patches, self.model.proprio_scale(self._proprio), time
            )

    def _action(self, action: Tensor | None) -> tuple[Tensor, Tensor]:
        """An action (B, A), normalised, at flow time (B,) 0, or noise at 1 where there is none."""
        x = self._noise((self.model.spec.A,)) if action is None else action.to(self.device)
        t = torch.full((self.batch,), float(action is None), device=self.device)
        return x if action is None else self.model.action_scale(x), t

    def _act(self, action: Tensor | None) -> None:
        with self._context():
            remember_act(self.model, self.memory, *self._action(action))

    def _advance(
        self, act: Tensor, absent: Tensor, noise: Tensor, noise_change: Tensor, blur: Tensor
    ) -> Tensor:
        """Act, imagine what follows, and remember it; the pictures (B, C, h, w, 3)."""
        config = self.config
        with self._context():
            remember_act(self.model, self.memory, act, absent)
            patches, change = sample_next(
                self.model,
                self.memory,
                self.latest,
                (noise, noise_change),
                config.flow_steps,
                config.method,
            )
        self.latest.copy_(patches.clamp(-1.0, 1.0))
        self._proprio += change
        t, patches = config.context_noise, self.latest
        if t:
            patches = interpolate(patches, blur, torch.tensor(t))
        self._remember(patches, t)
        return self.show()


def rollout(world: Imagination, act: Actor | Tensor | None, steps: int) -> Iterator[Frame]:
    """Imagine ``steps`` steps, one at a time: nothing is kept, so the horizon has no bound.

    ``act`` is a recording (B, >= steps, A): forward dynamics; or chooses every action from what is
    imagined: a policy in the loop; or None: video prediction without actions.
    """
    if isinstance(act, Tensor) and (act.ndim != 3 or act.shape[1] < steps):
        raise UserError(
            f"actions: got {tuple(act.shape)}, expected (B, {steps} or more, A) for {steps} steps"
        )
    images, proprio = world.show(), world.proprio
    for n in range(steps):
        if act is None:
            action = None
        else:
            action = act[:, n] if isinstance(act, Tensor) else act(images, proprio)
        images, proprio = world.step(action)
        yield Frame(images, proprio, action)


class Imagined(NamedTuple):
    """A whole rollout of n steps: o_1 … o_n, what led to each, and what the model reads there."""

    images: Tensor  # (B, n, C, h, w, 3) uint8
    proprio: Tensor  # (B, n, P)
    action: Tensor | None  # (B, n, A); None: without actions
    outcomes: Tensor  # (B, n, 5) leaves.READINGS


def imagine(world: Imagination, act: Actor | Tensor | None, steps: int) -> Imagined:
    """All of :func:`rollout` as tensors on the model's device, with the outcomes: no numpy, no
    copies. For training on; it stays in memory."""
    rows = [(*frame, world.outcomes()) for frame in rollout(world, act, steps)]
    images, proprio, action, outcomes = zip(*rows, strict=True)
    return Imagined(
        torch.stack(images, dim=1), torch.stack(proprio, dim=1),
        None if act is None else torch.stack(action, dim=1), torch.stack(outcomes, dim=1),
    )  # fmt: skip


def _checked_context(
    model: WorldModel, images: Tensor, proprio: Tensor, action: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    spec = model.spec
    B, n = (*images.shape, 0, 0)[:2]
    if action is None:
        action = torch.zeros(B, 0, spec.A)
    expected = {
        "images": (B, n, len(spec.cameras), *spec.image_size, 3),
        "proprio": (B, n, spec.P),
        "action": (B, n - 1, spec.A),
    }
    for name, got in (("images", images), ("proprio", proprio), ("action", action)):
        if tuple(got.shape) != expected[name]:
            raise UserError(
                f"context {name}: got {tuple(got.shape)}, expected {expected[name]}: cameras "
                f"{', '.join(spec.cameras)} of {spec.image_size[0]}x{spec.image_size[1]}, "
                f"{spec.P} of proprio, {spec.A} of action, and one action fewer than observations"
            )
        if not torch.isfinite(got).all():
            raise UserError(f"context {name}: not finite; where it was recorded is broken")
        if name != "images" and not got.is_floating_point():
            raise UserError(f"context {name}: got {got.dtype}, expected floating point numbers")
    if images.dtype != torch.uint8:
        raise UserError(f"context images: got {images.dtype}, expected uint8, 0 to 255")
    for k in range(n - 1):
        _checked_action(action[:, k], (B, spec.A))
    return images, proprio.float(), action.float()


def _checked_action(action: Tensor, shape: tuple[int, int]) -> Tensor:
    if tuple(action.shape) != shape:
        raise UserError(f"action: got {tuple(action.shape)}, expected {shape}, one row per world")
    if not torch.isfinite(action).all():
        raise UserError("action: not finite; whoever acts is broken")
    if action.abs().max() > 1.0 + 1e-5:
        raise UserError(
            f"action: got values up to {float(action.abs().max()):.3g}, expected -1 to 1, as the "
            "env's action space; clip or rescale them"
        )
    return action.float()
