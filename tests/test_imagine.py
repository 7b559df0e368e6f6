"""The error of what was imagined, against episodes whose error is known."""

from __future__ import annotations

import numpy as np
import pytest

from worldmodel.imagine import ImagineConfig, errors


def episode(steps: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 240, (steps + 1, 2, 16, 16, 3), dtype=np.uint8)
    return images, rng.normal(size=(steps + 1, 3)).astype(np.float32), np.zeros((steps, 4))


def imagined(episodes: list, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The truth, held at its end."""
    shown = [np.minimum(np.arange(1, steps + 1), len(images) - 1) for images, _, _ in episodes]
    pairs = list(zip(episodes, shown, strict=True))
    return np.stack([e[0][i] for e, i in pairs]), np.stack([e[1][i] for e, i in pairs])


def test_perfect_imagination_has_no_error():
    episodes = [episode(4, 0), episode(6, 1)]
    curves = errors(episodes, *imagined(episodes, 8))
    assert {len(c) for c in curves.values()} == {6}  # no episode lasted longer
    assert (curves["psnr"] == 60).all()
    assert curves["ssim"] == pytest.approx(np.ones(6))
    assert curves["proprio_error"] == pytest.approx(np.zeros(6))
    assert (curves["still_psnr"] < 15).all()


def test_a_constant_error_is_measured_and_ended_episodes_do_not_count():
    episodes = [episode(2, 0), episode(4, 1)]
    images, proprio = imagined(episodes, 4)
    images[1] += 10
    images[0, 2:] = 0  # past that episode's end
    curves = errors(episodes, images, proprio)
    off = 20 * np.log10(25.5)
    assert curves["psnr"][:2] == pytest.approx((60 + off) / 2)
    assert curves["psnr"][2:] == pytest.approx(off)


def test_senseless_horizons_are_refused():
    with pytest.raises(ValueError, match="got 0"):
        ImagineConfig(episodes=0)
