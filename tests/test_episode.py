"""An episode refuses streams that don't fit together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from worldmodel.episode import Episode
from worldmodel.errors import UserError


def episode(T: int = 4) -> Episode:
    no = np.zeros(T, bool)
    return Episode(
        {"front": np.zeros((T + 1, 6, 8, 3), np.uint8)}, np.zeros((T + 1, 5), np.float32),
        np.zeros((T, 2), np.float32), np.zeros((T, 2), np.float32), np.zeros(T, np.float32),
        no, no, no.copy(), "push", 7, "dropped",
    )  # fmt: skip


def test_lengths() -> None:
    assert len(episode()) == 4
    assert not episode().succeeded
    with pytest.raises(UserError, match=r"seed 7: proprio has 4 entries, expected 5"):
        dataclasses.replace(episode(), proprio=np.zeros((4, 5), np.float32))
    with pytest.raises(UserError, match="camera 'front' is float32"):
        dataclasses.replace(episode(), images={"front": np.zeros((5, 6, 8, 3), np.float32)})


@pytest.mark.parametrize(
    ("stream", "width"), [("proprio", 5), ("action", 2), ("label", 2), ("reward", None)]
)
def test_a_value_that_is_not_finite_is_named_by_stream_and_step(
    stream: str, width: int | None
) -> None:
    values = getattr(episode(), stream).copy()
    values[2] = np.nan
    with pytest.raises(UserError, match=f"{stream} is not finite at step 2"):
        dataclasses.replace(episode(), **{stream: values})
