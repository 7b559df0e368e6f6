"""How far a thing is moved before it is held: worldmodel/steady.py, docs/claims.py."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from test_tables import script

from worldmodel.errors import UserError
from worldmodel.imagined_episodes import ImaginedEpisode
from worldmodel.steady import check_steady, moved

FRAMES = np.zeros((4, 2, 8, 8, 3), np.uint8)


def reads(can: list[tuple[float, float, float]], held: list[bool]) -> SimpleNamespace:
    """A probe to which an episode's pictures say this; its hand goes far, which must not matter."""
    hand = np.arange(len(can))[:, None] * np.ones(3)
    read = {"gripper": hand, "can": np.array(can), "in hand": np.array(held)}
    return SimpleNamespace(
        positions=("gripper", "can"), flags=("in hand",), read=lambda images: read
    )


@pytest.mark.parametrize(
    ("can", "held", "far"),
    [
        ([(0.5, 0, 0), (0.5, 0, 0), (0.5, 0, 0), (0.5, 0, 0)], [False] * 4, 0.0),
        ([(0.5, 0, 0), (0.53, 0.04, 0), (0.5, 0, 0), (0.5, 0, 0)], [False] * 4, 0.05),  # the most
        # in the hand it may go where it will, and where it is lifted it is in the hand
        ([(0.5, 0, 0), (0.51, 0, 0), (0.9, 0, 0), (0.9, 0, 0)], [False, False, True, True], 0.01),
        ([(0.5, 0, 0), (0.51, 0, 0), (0.9, 0, 0.1), (0.9, 0, 0.2)], [False] * 4, 0.01),
        ([(0.5, 0, 0), (0.9, 0, 0), (0.9, 0, 0), (0.9, 0, 0)], [True, False, False, False], 0.0),
        ([(0.5, 0, 0.015), (0.5, 0, 0), (0.5, 0, 0), (0.5, 0, 0)], [False] * 4, 0.0),  # across
    ],
)
def test_how_far_it_is_moved_before_it_is_held(
    can: list[tuple[float, float, float]], held: list[bool], far: float
) -> None:
    assert moved(reads(can, held), FRAMES) == pytest.approx(far)


def test_a_probe_has_to_read_a_thing_and_whether_it_is_held() -> None:
    spec = SimpleNamespace(cameras=("front", "wrist"), image_size=(8, 8))
    eyes = {"cameras": 2, "size": (8, 8)}
    mine = SimpleNamespace(positions=("gripper", "can"), flags=("in hand",), **eyes)
    check_steady(mine, "mine", spec)
    for positions, flags in ((("gripper", "can"), ()), (("gripper",), ("in hand",))):
        other = SimpleNamespace(positions=positions, flags=flags, **eyes)
        with pytest.raises(UserError, match=r"probe 'mine' reads gripper.*expected a thing"):
            check_steady(other, "mine", spec)
    mine.size = (16, 16)
    with pytest.raises(UserError, match=r"reads 2 cameras of \(16, 16\) px, .* 2 of \(8, 8\)"):
        check_steady(mine, "mine", spec)


def test_claims_are_counted_and_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    claims = script("claims", monkeypatch)
    found = [claims.Claim(far < 0.02, far, FRAMES, FRAMES) for far in (0.001, 0.015, 0.03, 0.04)]
    row = claims.row("runs/train/few", found, 10, still=0.012)
    assert row == (
        "| runs/train/few | 4 of 10 | 2 of 4 [0.15, 0.85] | 1.000 | 1 | 1 of 1 [0.21, 1.00] |"
    )
    assert claims.row("random", [], 10, 0.012).count("0 of 0") == 2


def test_what_was_done_inside_is_done_again_and_held(monkeypatch: pytest.MonkeyPatch) -> None:
    claims, done = script("claims", monkeypatch), []
    monkeypatch.setattr(claims, "replay", lambda env, spec, seed, actions: done.append(actions))
    action = np.array([[0.5, -0.5, -1.0], [0.2, 0.1, 1.0]], np.float32)
    episode = ImaginedEpisode(FRAMES[:3], np.zeros((3, 4), np.float32), action, True)
    claims.carried_out(None, None, 7, episode)
    assert np.array_equal(done[0][:2], action)
    assert np.array_equal(done[0][2:], [[0.0, 0.0, 1.0]] * claims.AFTER)
