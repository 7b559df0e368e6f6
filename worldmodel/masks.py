"""Which token sees which: block-causal over env steps with a sliding window, and leaves.

A segment is a list of groups. Context groups (`obs`, `act`) form a causal stream,

    place   0      1      2      3      4    ...
    group  obs_0  act_0  obs_1  act_1  obs_2

and a leaf (`next`, `plan`, `outcome`, `inverse`) reads that stream up to one place and itself;
nothing else ever reads a leaf. With W = 2 steps, rows read columns (x sees, . does not):

            obs_0 act_0 obs_1 act_1 obs_2   next_1 plan_1
    obs_0     x     .     .     .     .       .      .
    act_0     x     x     .     .     .       .      .
    obs_1     x     x     x     .     .       .      .
    act_1     x     x     x     x     .       .      .
    obs_2     .     .     x     x     x       .      .        (step 0 has left the window)
    next_1    x     x     x     x     .       x      .        up to and with act_1
    plan_1    x     x     x     .     .       .      x        up to and with obs_1, not act_1
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Group(NamedTuple):
    kind: str  # obs | act | next | plan | outcome | inverse
    step: int  # the env step n it belongs to
    tokens: int


class Layout(NamedTuple):
    """Where each of the S tokens of a segment stands, for masks and positions."""

    step: Tensor  # (S,) env step n
    place: Tensor  # (S,) position in the context stream: 2n for obs, 2n + 1 for act, -1 for leaves
    limit: Tensor  # (S,) the last place that the token may read
    leaf: Tensor  # (S,) number of the token's leaf, -1 for context


def layout(groups: list[Group], device: torch.device | None = None) -> Layout:
    """The layout of ``groups``, token by token in the order given."""
    rows = []
    for number, (kind, step, tokens) in enumerate(groups):
        reads_action = kind in ("act", "next")
        limit = 2 * step + 1 if reads_action else 2 * step
        in_context = kind in ("obs", "act")
        rows += [(step, limit if in_context else -1, limit, -1 if in_context else number)] * tokens
    return Layout(*torch.tensor(rows, device=device).unbind(1))


def positions(groups: list[Group], grid: Tensor) -> Tensor:
    """(S, 3) positions on (step, row, column); action j of a plan stands at step n + j.

    ``grid`` (N + 1, 2): where the tokens of an observation stand.
    """
    rows = []
    for kind, step, tokens in groups:
        place = torch.zeros(tokens, 3, dtype=torch.long, device=grid.device)
        place[:, 0] = step
        if kind in ("obs", "next"):
            place[:, 0] += kind == "next"
            place[:, 1:] = grid
        elif kind == "plan":
            place[:, 0] += torch.arange(tokens, device=place.device)
        rows.append(place)
    return torch.cat(rows)


def window_start(steps: int, window: int) -> Tensor:
    """(T,) the first step that each step may see: the last ``window`` steps, itself included."""
    return (torch.arange(steps) - window + 1).clamp(min=0)


def attention_mask(tokens: Layout, first: Tensor) -> Tensor:
    """(B, S, S) bool, True where the row's token reads the column's.

    ``first`` (B, T) is the first step whose context is visible from each step: the sliding window
    (:func:`window_start`), or later where a segment's history is cut.
    """
    step, place, limit, leaf = tokens
    causal = (place >= 0) & (place <= limit[:, None])  # (S, S)
    own_leaf = (leaf >= 0) & (leaf == leaf[:, None])  # (S, S)
    in_window = step >= first[:, step, None]  # (B, S, S)
    return (causal & in_window) | own_leaf
