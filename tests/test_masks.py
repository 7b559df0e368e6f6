"""The mask against the drawing in the module's docstring, letter by letter."""

from __future__ import annotations

import pytest
import torch

from worldmodel import masks
from worldmodel.masks import Group, attention_mask, layout, window_start


def drawing() -> tuple[list[str], list[list[bool]]]:
    lines = [line.split() for line in masks.__doc__.splitlines() if line.startswith("    ")]
    rows = [line for line in lines if len(line) >= 8 and set(line[1:8]) <= {"x", "."}]
    return [row[0] for row in rows], [[mark == "x" for mark in row[1:8]] for row in rows]


@pytest.mark.parametrize("tokens", [1, 3])
def test_mask_is_the_drawing(tokens: int) -> None:
    names, marks = drawing()
    assert names == ["obs_0", "act_0", "obs_1", "act_1", "obs_2", "next_1", "plan_1"]
    groups = [Group(name[:-2], int(name[-1]), tokens) for name in names]
    mask = attention_mask(layout(groups), window_start(3, 2)[None])
    expected = torch.tensor(marks).repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)
    assert torch.equal(mask[0], expected)


def test_every_token_sees_something_and_nobody_sees_another_leaf() -> None:
    groups = [g for n in range(4) for g in (Group("obs", n, 2), Group("act", n, 1))]
    groups += [Group("plan", n, 2) for n in range(4)] * 2 + [Group("inverse", 2, 1)]
    where = layout(groups)
    mask = attention_mask(where, window_start(4, 3)[None])[0]
    assert mask.any(1).all()
    leaf = where.leaf
    others = (leaf[:, None] != leaf) & (leaf[None] >= 0)
    assert not (mask & others).any()


def test_a_cut_hides_what_lies_before_it() -> None:
    groups = [g for n in range(3) for g in (Group("obs", n, 1), Group("act", n, 1))]
    mask = attention_mask(layout(groups), torch.tensor([[0, 1, 1]]))[0]
    assert not mask[2:, :2].any()
    assert mask[4, 2]
