"""How far a hand moves a thing before it holds it, as a state probe reads the pictures.

Things lie still until something touches them, and a hand that shoves what it means to take misses
it, as a rule; but a model may imagine that it takes it all the same. So an imagined success in
which the thing has moved is one to distrust (docs/claims.py measures how much).
"""

from __future__ import annotations

import numpy as np

from worldmodel.errors import UserError
from worldmodel.probe import StateProbe
from worldmodel.spec import DataSpec

HAND, HELD = "gripper", "in hand"  # of what a probe reads
LIFTED = 0.02  # m above where it lay
STILL = 0.02  # m by which a thing may be moved before it is held, for a success to be believed


def check_steady(probe: StateProbe, name: str, spec: DataSpec) -> None:
    """UserError where this probe does not read the pictures of ``spec``, or not a thing beside the
    hand, and whether the one holds the other."""
    expected = len(spec.cameras), spec.image_size
    if (probe.cameras, tuple(probe.size)) != expected:
        raise UserError(
            f"probe '{name}' reads {probe.cameras} cameras of {tuple(probe.size)} px, the model "
            f"shows {expected[0]} of {expected[1]}; train one: worldmodel probe env=…"
        )
    if not can_tell(probe):
        raise UserError(
            f"probe '{name}' reads {', '.join((*probe.positions, *probe.flags))}; expected a thing "
            f"beside '{HAND}', and '{HELD}'"
        )


def can_tell(probe: StateProbe) -> bool:
    """Whether it reads a thing beside the hand, and whether the one holds the other."""
    return HELD in probe.flags and bool({*probe.positions} - {HAND})


def doubts(doubt: bool | None, probe: str) -> bool:
    """Whether a model is to doubt what it imagines: as ``doubt`` says, and if that says nothing,
    where no ``probe`` tells what to believe; both together rank policies worse (docs/log.md,
    2026-11-29, fourth entry)."""
    return not probe if doubt is None else doubt


def moved(probe: StateProbe, images: np.ndarray) -> float:
    """How far [m] a thing is from where it lay, at most, before one is held or lifted.

    Across the ground, in the pictures uint8 (T, C, h, w, 3) of one episode; of several things the
    one that moves most. 0 where one is held from the start.
    """
    read = probe.read(images)
    things = np.stack([read[name] for name in probe.positions if name != HAND])  # (n, T, 3)
    away = things - things[:, :1]
    held = read[HELD] | (away[..., 2] > LIFTED).any(axis=0)
    lying = np.argmax(held) if held.any() else len(held)
    return float(np.linalg.norm(away[:, :lying, :2], axis=-1).max(initial=0.0))
