"""A plan led to where it comes out better, by central differences in imagination.

A policy that saw few demonstrations knows how to take a thing, and not well enough where it lies.
So its plan is imagined a little further to the left, the right, ahead and back; and as it is, and
turned a little one way and the other. Moved across the ground it is by the slope of the squared
distance between hand and thing, which a state probe reads off the imagined pictures; turned it is
to where the model's own return is best. Few imagined steps are enough for that, and so few the
model imagines truly (docs/log.md, 2026-11-29). All are imagined with the same noise, so that what
differs between them is due to the plan [common random numbers; Glasserman and Yao 1992].
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from worldmodel.errors import UserError
from worldmodel.model import WorldModel
from worldmodel.probe import StateProbe
from worldmodel.rollout import Imagination, RolloutConfig, generators_from
from worldmodel.search import act_out
from worldmodel.spec import DataSpec
from worldmodel.steady import HAND, check_steady

NEAR = 0.15  # m between hand and thing: from further off a plan is as good as it is
REACH = 3  # steps over which it is moved
ASIDE, MOST = 0.025, 0.015  # m, by how much to try, and to lead at most
AHEAD, TURN = 6, 0.4  # steps over which it is turned, and by how much to try, rad
TEMPERATURE = 0.02  # of the turns' softmax, in units of return
OPEN = "gripper_command [1 close, -1 open]"


class Steering:
    """Plans of a hand that goes to take the one thing there is."""

    def __init__(
        self, world: WorldModel, probe: StateProbe, name: str,
        config: RolloutConfig | None = None, shuffled: bool = False,
    ) -> None:  # fmt: skip
        """``probe``, called ``name``, reads what ``world`` imagines. ``shuffled`` is a control:
        what is found for one way to move or turn is taken for another's.

        UserError where the probe reads no hand, no thing or several, or other pictures; where the
        model's actions do not move a hand.
        """
        check_steady(probe, name, world.spec)
        things = [position for position in probe.positions if position != HAND]
        if len(things) != 1:
            raise UserError(
                f"probe '{name}' reads {', '.join(things)}; plans can be led to one thing, and it "
                "does not say to which"
            )
        self.world, self.probe, self.thing, self.shuffled = world, probe, things[0], shuffled
        self.config = config or RolloutConfig(flow_steps=1)
        x, y, turn = (axis(world.spec, f"delta_{name}") for name in ("x", "y", "rz"))
        self._across, self._round = (x, y), turn
        self._tcp = [place(world.spec.proprio_names, f"tcp_{name} [m]") for name in "xyz"]
        self._command = place(world.spec.proprio_names, OPEN)

    @torch.no_grad()
    def lead(
        self, plans: np.ndarray, images: np.ndarray, proprio: np.ndarray, keys: np.ndarray
    ) -> np.ndarray:
        """Plans (n, H, A) led from where n observations are: images uint8 (n, C, h, w, 3), proprio
        (n, P). Those whose hand is closed, or far, stay as they are. ``keys`` (n,) name the noise.
        """
        away = proprio[:, self._tcp] - self.probe.read(images)[self.thing]
        rows = np.flatnonzero(
            (np.linalg.norm(away, axis=1) < NEAR) & (proprio[:, self._command] < 0)
        )
        if not len(rows):
            return plans
        led, known = plans.copy(), (images[rows], proprio[rows], keys[rows])
        led[rows] += self._move(plans[rows], *known) + self._turn(plans[rows], *known)
        return np.clip(led, -1.0, 1.0).astype(np.float32)

    def _move(self, plans: np.ndarray, *known: np.ndarray) -> np.ndarray:
        """What to add (n, H, A) to go where the thing is, by central differences."""
        ways = [self._along(plans, a, REACH, by) for a in self._across for by in (ASIDE, -ASIDE)]
        apart = np.zeros((len(plans), len(ways)))
        for seen, felt, _ in self._imagined(plans, ways, REACH, *known):
            thing = self.probe.read(seen.cpu().numpy())[self.thing]
            away = felt[:, self._tcp].cpu().numpy() - thing
            apart = (away**2).sum(1).reshape(apart.shape)
        apart = self._found(apart, known[-1])
        across = -(apart[:, ::2] - apart[:, 1::2]) / (4 * ASIDE)
        size = np.linalg.norm(across, axis=1, keepdims=True)
        across *= np.minimum(1.0, MOST / np.maximum(size, 1e-9))
        x, y = self._across
        return self._along(plans, x, REACH, across[:, 0]) + self._along(
            plans, y, REACH, across[:, 1]
        )

    def _turn(self, plans: np.ndarray, *known: np.ndarray) -> np.ndarray:
        """What to add (n, H, A) to be turned as it earns most."""
        turns = np.array([0.0, TURN, -TURN])
        ways = [self._along(plans, self._round, AHEAD, by) for by in turns]
        earned = np.zeros((len(plans), len(ways)))
        for _, _, total in self._imagined(plans, ways, AHEAD, *known):
            earned = total.float().cpu().numpy().reshape(earned.shape)
        earned = self._found(earned, known[-1])
        weight = np.exp((earned - earned.max(1, keepdims=True)) / TEMPERATURE)
        return self._along(plans, self._round, AHEAD, weight @ turns / weight.sum(1))

    def _along(
        self, plans: np.ndarray, axis: tuple[int, float], steps: int, by: float | np.ndarray
    ) -> np.ndarray:
        """(n, H, A) what moves n plans ``by`` so many m or rad along an axis within ``steps``."""
        (index, unit), steps = axis, min(steps, plans.shape[1])
        added = np.zeros_like(plans)
        added[:, :steps, index] = (np.broadcast_to(by, len(plans)) / (steps * unit))[:, None]
        return added

    def _imagined(
        self, plans: np.ndarray, ways: Sequence[np.ndarray], steps: int, images: np.ndarray,
        proprio: np.ndarray, keys: np.ndarray,
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:  # fmt: skip
        """Step by step what worldmodel.search.act_out says of n plans, to each of which each of N
        ``ways`` (n, H, A) is added: images (n N, …) and so on, with a plan's own side by side."""
        N = len(ways)
        tried = np.clip(plans[:, None] + np.stack(ways, axis=1), -1.0, 1.0).astype(np.float32)
        world = Imagination(
            self.world, *(torch.from_numpy(np.repeat(x, N, 0)) for x in (images, proprio)),
            generators=[g for key in keys for _ in range(N) for g in self._noise(key)],
            config=self.config,
        )  # fmt: skip
        return act_out(world, torch.from_numpy(tried[:, :, :steps]).flatten(0, 1))

    def _found(self, values: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Values (n, N) of N ways, or for the control those of others."""
        if not self.shuffled:
            return values
        drawn = [np.random.default_rng([abs(int(k)), 1]).permutation(values.shape[1]) for k in keys]
        return np.take_along_axis(values, np.stack(drawn), axis=1)

    def _noise(self, key: int) -> list[torch.Generator]:
        return generators_from(abs(int(key)), 1, self.world.grid.device)


def axis(spec: DataSpec, name: str) -> tuple[int, float]:
    """Where an action's entry ``name`` stands, and what 1.0 of it is, in m or rad a step."""
    for i, known in enumerate(spec.action_names):
        if found := re.fullmatch(rf"{name} \[([\d.]+) (?:m|rad)\]", known):
            return i, float(found.group(1))
    raise UserError(
        f"no action is named '{name} [… m]' or '{name} [… rad]', by which plans are led; the "
        f"model's are {', '.join(spec.action_names)}"
    )


def place(names: Sequence[str], name: str) -> int:
    """Where ``name`` stands in proprioception."""
    if name not in names:
        raise UserError(
            f"proprioception has no '{name}', by which plans are led; it has {', '.join(names)}"
        )
    return list(names).index(name)
