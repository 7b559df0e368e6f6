"""How true imagined frames are, against frames whose error is known."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import ToyEnv, ToyPolicy

from worldmodel.branches import BranchConfig, compare, regret, sequences
from worldmodel.errors import UserError
from worldmodel.fidelity import Fidelity
from worldmodel.imagine import ImagineConfig
from worldmodel.probe import ProbeConfig, StateProbe, load_probe, save_probe, train_probe
from worldmodel.recording import Recording, check_truth, record, replay
from worldmodel.spec import spec_of_env


class SquareEnv(ToyEnv):
    """The toy, which also says where its square is."""

    def __init__(self) -> None:
        super().__init__(size=(32, 32))

    def truth(self) -> dict[str, np.ndarray]:
        return {"square": np.array([*self.place, 0.0]), "right": np.array(self.place[1] > 0)}


@pytest.fixture(scope="module")
def stories() -> list[Recording]:
    env = SquareEnv()
    spec = spec_of_env(env)
    return [record(env, ToyPolicy(env), spec, 300 + i, explore=True) for i in range(60)]


@pytest.fixture(scope="module")
def probe(stories: list[Recording]) -> StateProbe:
    config = ProbeConfig(updates=250)
    found, error = train_probe(stories, config, lambda n, text: None)
    assert error["episodes"] == 6
    assert error["square_mm"][0] < 100  # of 2 m
    assert error["right_agreement"] > 0.9
    return found


def test_a_recording_is_what_happened_and_can_be_replayed(stories: list[Recording]) -> None:
    env = SquareEnv()
    for story in stories[:3]:
        again = replay(env, spec_of_env(env), story.seed, story.action)
        assert np.array_equal(again.images, story.images)
        assert np.array_equal(again.proprio, story.proprio)
        assert np.allclose(again.truth["square"][:, :2], story.proprio[:, :2])
        assert len(story.images) == len(story.action) + 1


def test_an_env_that_does_not_tell_its_state_is_refused() -> None:
    env = ToyEnv()
    with pytest.raises(UserError, match=r"no method truth\(\)"):
        check_truth([record(env, ToyPolicy(env), spec_of_env(env), 1)])


def test_a_probe_survives_its_file(probe: StateProbe, stories, tmp_path) -> None:
    save_probe(tmp_path, probe, {"env": "toy"})
    again, about = load_probe(tmp_path)
    assert about == {"env": "toy"}
    for name, values in probe.read(stories[0].images).items():
        assert np.array_equal(again.read(stories[0].images)[name], values)
    (tmp_path / "probe.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="truncated or corrupt"):
        load_probe(tmp_path)


def test_real_frames_are_true_and_a_known_shift_is_measured(probe: StateProbe, stories) -> None:
    chosen = [s for s in stories if len(s) >= 6][:8]
    real = Fidelity([s.images[1:] for s in chosen], chosen, probe, ("front", "wrist"), None)
    figures = real.figures()
    assert figures["episodes"] == 8
    assert figures["psnr"][0] == 60
    assert figures["ssim"][0] == pytest.approx(1)
    assert figures["square_mm"][0] < 100
    still = [np.repeat(s.images[:1], len(s), axis=0) for s in chosen]
    copied = Fidelity(still, chosen, probe, ("front", "wrist"), None)
    assert copied.figures()["square_mm"][0] > 2 * figures["square_mm"][0]
    last = copied.arrays["square_mm"][0, len(chosen[0]) - 1]
    moved = 1000 * np.linalg.norm(chosen[0].truth["square"][-1] - chosen[0].truth["square"][0])
    assert last == pytest.approx(moved, abs=200)
    steps, middle, low, high = copied.curve("square_mm")
    assert steps[0] == 1
    assert all(a <= b <= c for a, b, c in zip(low, middle, high, strict=True))


def test_what_vanishes_for_long_is_counted_and_a_blink_is_not(probe: StateProbe, stories) -> None:
    story = max(stories, key=len)
    assert len(story) == 30
    calls = iter([1, 0, 1, 2, 2, 1, 0, 1, 0, 1, 0, 1])
    count = lambda pictures: next(calls)  # noqa: E731
    frames = [story.images[1:]]
    first = Fidelity(frames, [story], probe, ("front", "wrist"), count).figures()
    assert (first["vanished"], first["doubled"]) == (0.0, 1.0)
    second = Fidelity(frames, [story], probe, ("front", "wrist"), count).figures()
    assert (second["vanished"], second["doubled"]) == (0.0, 0.0)


def test_branches_are_compared_as_by_hand() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(5, 16, 3)) * 0.1
    perfect = compare(true, true)
    assert perfect["error_mm"] == 0
    assert perfect["correlation"] == pytest.approx(1)
    assert perfect["direction_deg"] == pytest.approx(0, abs=0.01)
    blind = compare(true, np.broadcast_to(true.mean(1, keepdims=True), true.shape))
    assert abs(blind["correlation"]) < 1e-3
    turned = compare(true, true @ np.array([[0, -1, 0], [1, 0, 0], [0, 0, 0.0]]))
    assert turned["direction_deg"] > 60
    far = np.array([[0.3, 0.1, 0.2], [0.5, 0.6, 0.4]])
    right = regret(far, far)
    assert right["top1_regret_mm"] == 0
    assert right["random_regret_mm"] == pytest.approx(100)
    assert regret(far, -far)["top1_regret_mm"] == pytest.approx((200 + 200) / 2)


def test_action_sequences_differ_and_stay_in_range() -> None:
    found = sequences(
        BranchConfig(branches=16, length=10),
        ("delta_x", "delta_y", "delta_z", "delta_rx", "delta_ry", "delta_rz", "gripper"),
        np.random.default_rng(0),
    )
    assert found.shape == (16, 10, 7)
    assert np.abs(found).max() <= 1
    assert len(np.unique(found.reshape(16, -1), axis=0)) == 16
    assert set(np.unique(found[..., -1])) == {-1.0, 1.0}
    assert found[..., :3].std() > 0.4


def test_senseless_horizons_are_refused() -> None:
    with pytest.raises(ValueError, match="got 0"):
        ImagineConfig(episodes=0)
