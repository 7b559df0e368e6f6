"""A plan led to where it comes out better, by central differences in imagination.

A policy that saw few demonstrations knows how to take a thing, and not well enough where it lies.
So its plan is imagined as it is, and a little further to the left, the right, ahead and back, and
turned a little one way and the other. Moved across the ground it is by the slope of the squared
distance between hand and thing, which a state probe reads off the imagined pictures; turned it is
to where the model's own return is best. Few imagined steps are enough for that, and so few the
model imagines truly (docs/log.md, 2026-11-29). All seven are imagined with the same noise, so that
what differs between them is due to the plan [common random numbers; Glasserman and Yao 1992].
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch

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
        what is found for one of the seven is taken for another's.

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
        self._across, self._turn = (x, y), turn
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
        moves = self._moves(plans.shape[1])
        n, N = len(rows), len(moves)
        tried = np.clip(plans[rows, None] + moves, -1.0, 1.0).reshape(n * N, *plans.shape[1:])
        world = Imagination(
            self.world, *(torch.from_numpy(np.repeat(x[rows], N, 0)) for x in (images, proprio)),
            generators=[g for i in rows for _ in range(N) for g in self._noise(keys[i])],
            config=self.config,
        )  # fmt: skip
        apart, earned = np.zeros((n, N)), np.zeros((n, N))
        for k, (seen, felt, total) in enumerate(act_out(world, torch.from_numpy(tried[:, :AHEAD]))):
            if k < REACH:
                thing = self.probe.read(seen.cpu().numpy())[self.thing]
                apart = ((felt[:, self._tcp].cpu().numpy() - thing) ** 2).sum(1).reshape(n, N)
            earned = total.float().cpu().numpy().reshape(n, N)
        if self.shuffled:
            for row, i in enumerate(rows):
                drawn = np.random.default_rng([abs(int(keys[i])), 1]).permutation(N)
                apart[row], earned[row] = apart[row, drawn], earned[row, drawn]
        return self._led(plans, rows, apart, earned)

    def _led(
        self, plans: np.ndarray, rows: np.ndarray, apart: np.ndarray, earned: np.ndarray
    ) -> np.ndarray:
        """From squared distances and returns (n, 7), in the order of :meth:`_moves`."""
        across = -(apart[:, [1, 3]] - apart[:, [2, 4]]) / (4 * ASIDE)
        size = np.linalg.norm(across, axis=1, keepdims=True)
        across *= np.minimum(1.0, MOST / np.maximum(size, 1e-9))
        turns = earned[:, [0, 5, 6]]
        weight = np.exp((turns - turns.max(1, keepdims=True)) / TEMPERATURE)
        turn = (weight[:, 1] - weight[:, 2]) * TURN / weight.sum(1)
        led, H = plans.copy(), plans.shape[1]
        for (index, unit), by in zip(self._across, across.T, strict=True):
            led[rows, :REACH, index] += (by / (min(REACH, H) * unit))[:, None]
        index, unit = self._turn
        led[rows, :AHEAD, index] += (turn / (min(AHEAD, H) * unit))[:, None]
        return np.clip(led, -1.0, 1.0).astype(np.float32)

    def _moves(self, H: int) -> np.ndarray:
        """(7, H, A) what is added to a plan: nothing, each way along x and y, each way round."""
        moves = np.zeros((7, H, self.world.spec.A), np.float32)
        for k, (index, unit) in enumerate(self._across):
            for j, sign in enumerate((1, -1)):
                moves[1 + 2 * k + j, :REACH, index] = sign * ASIDE / (min(REACH, H) * unit)
        index, unit = self._turn
        for j, sign in enumerate((1, -1)):
            moves[5 + j, :AHEAD, index] = sign * TURN / (min(AHEAD, H) * unit)
        return moves

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
