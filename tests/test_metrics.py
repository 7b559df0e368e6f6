"""Figures against values known from elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from worldmodel.metrics import (
    calibration_error,
    mean_maximum_rank_violation,
    pearson,
    psnr,
    roc_auc,
    spearman,
    ssim,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [(18, 20, 0.699, 0.972), (0, 50, 0.0, 0.0713), (50, 50, 0.9287, 1.0), (1, 2, 0.0945, 0.9055)],
)
def test_wilson_known_values(successes: int, episodes: int, low: float, high: float):
    assert wilson(successes, episodes) == pytest.approx((low, high), abs=5e-4)


def test_wilson_covers_the_truth_95_times_in_a_hundred():
    rng = np.random.default_rng(0)
    truth = rng.uniform(size=5000)
    bounds = [wilson(int(k), 100) for k in rng.binomial(100, truth)]
    inside = [low <= p <= high for p, (low, high) in zip(truth, bounds, strict=True)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(("k", "n"), [(3, 2), (-1, 2), (0, 0)])
def test_wilson_refuses_impossible_counts(k: int, n: int):
    with pytest.raises(ValueError, match="got"):
        wilson(k, n)


def test_psnr_of_a_constant_error_and_of_equal_images():
    a = np.full((2, 16, 16, 3), 100, np.uint8)
    b = a.copy()
    b[1] += 10
    assert psnr(a, b)[0] == np.inf
    assert psnr(a, b)[1] == pytest.approx(20 * np.log10(25.5))
    assert psnr(b, a)[1] == psnr(a, b)[1]  # and no wrap-around of uint8


def test_ssim_of_equal_shifted_and_unrelated_images():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, (32, 32, 3), dtype=np.uint8)
    other = rng.integers(0, 200, (32, 32, 3), dtype=np.uint8)
    assert ssim(image, image) == pytest.approx(1.0)
    assert abs(ssim(image, other)) < 0.1
    # constant images: the structure term is 1, the luminance term is left
    a, b = np.full((16, 16, 1), 100, np.uint8), np.full((16, 16, 1), 150, np.uint8)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)
    assert ssim(a, b) == pytest.approx(expected)


def test_ssim_is_the_mean_of_explicit_windows():
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 256, (2, 13, 12, 1), dtype=np.uint8)
    g = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    g = np.outer(g, g) / g.sum() ** 2
    c1, c2, values = (0.01 * 255) ** 2, (0.03 * 255) ** 2, []
    for i in range(3):
        for j in range(2):
            a, b = (v[i : i + 11, j : j + 11, 0].astype(float) for v in (x, y))
            ma, mb = (g * a).sum(), (g * b).sum()
            va, vb = (g * (a - ma) ** 2).sum(), (g * (b - mb) ** 2).sum()
            cov = (g * (a - ma) * (b - mb)).sum()
            values.append(
                (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
            )
    assert ssim(x, y) == pytest.approx(np.mean(values))


def test_images_must_match():
    with pytest.raises(ValueError, match="one shape"):
        psnr(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(ValueError, match="11x11"):
        ssim(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8))


def test_correlations_of_known_lists():
    a, b = np.array([1.0, 2, 3, 4]), np.array([1.0, 4, 9, 16])
    assert spearman(a, b) == pytest.approx(1)
    assert pearson(a, b) == pytest.approx(0.984374, abs=1e-6)
    assert spearman(a, -b) == pytest.approx(-1)
    assert spearman(np.array([1.0, 1, 2]), np.array([3.0, 3, 5])) == pytest.approx(1)
    assert np.isnan(pearson(a, np.ones(4)))


def test_rank_violation_by_hand():
    real = np.array([0.1, 0.5, 0.9])
    assert mean_maximum_rank_violation(real, np.array([0.0, 0.2, 0.3])) == 0
    # the judge swaps the two best: each is 0.4 from the one on its wrong side
    assert mean_maximum_rank_violation(real, np.array([0.0, 0.3, 0.2])) == pytest.approx(0.8 / 3)


def test_area_under_the_curve_against_counting_pairs():
    rng = np.random.default_rng(0)
    label = rng.random(60) < 0.3
    score = np.round(rng.random(60) + 0.4 * label, 1)  # with ties
    up, down = score[label], score[~label]
    pairs = (up[:, None] > down).mean() + 0.5 * (up[:, None] == down).mean()
    assert roc_auc(score, label) == pytest.approx(pairs)
    assert np.isnan(roc_auc(score, np.ones(60, bool)))


def test_calibration_error_of_true_and_of_bold_chances():
    rng = np.random.default_rng(0)
    chance = rng.random(20_000)
    happened = rng.random(20_000) < chance
    assert calibration_error(chance, happened) < 0.02
    assert calibration_error(np.ones(20_000), happened) == pytest.approx(0.5, abs=0.02)
