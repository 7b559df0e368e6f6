"""Pure functions from arrays to figures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def wilson(successes: int, episodes: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a success rate; the default ``z`` makes it 95 %."""
    if not 0 <= successes <= episodes or episodes < 1:
        raise ValueError(f"expected 0 <= successes <= episodes >= 1, got {successes}, {episodes}")
    n, p = episodes, successes / episodes
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def sign_test(better: int, worse: int) -> float:
    """Two-sided p of so uneven a split of the pairs that differ, were both ways as likely: the
    exact form of McNemar's test."""
    n, k = better + worse, min(better, worse)
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)


def median_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Median and bootstrap 95 % interval of ``values`` (n,)."""
    return _bootstrap(values, np.median)


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and bootstrap 95 % interval of ``values`` (n,)."""
    return _bootstrap(values, np.mean)


def _bootstrap(values: np.ndarray, statistic: Any) -> tuple[float, float, float]:
    """(value, low, high): percentiles of 500 redrawn samples, from a fixed seed."""
    rng = np.random.default_rng(0)
    drawn = statistic(rng.choice(values, (500, len(values))), axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(statistic(values)), float(low), float(high)


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two lists of figures; NaN where one of them is constant."""
    if a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of their ranks; ties share the mean rank."""
    return pearson(_ranks(a), _ranks(b))


def _ranks(x: np.ndarray) -> np.ndarray:
    return (x[:, None] > x).sum(axis=1) + 0.5 * (x[:, None] == x).sum(axis=1)


def mean_maximum_rank_violation(real: np.ndarray, judged: np.ndarray) -> float:
    """MMRV [SIMPLER, arXiv 2405.05941, eq. 1]: for each policy the largest real difference to one
    that the judge puts on the wrong side of it, and of those the mean."""
    gap = np.abs(real[:, None] - real)
    wrong = (judged[:, None] < judged) != (real[:, None] < real)
    return float((gap * wrong).max(axis=1).mean())


def roc_auc(score: np.ndarray, label: np.ndarray) -> float:
    """Chance that a positive has the higher score than a negative (ties half); NaN without both."""
    positive = int(label.sum())
    negative = len(label) - positive
    if not positive or not negative:
        return float("nan")
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    _, first, count = np.unique(ordered, return_index=True, return_counts=True)
    rank = np.repeat(first + (count + 1) / 2, count)  # 1-based, ties share the mean
    found = rank[label[order].astype(bool)].sum() - positive * (positive + 1) / 2
    return float(found / (positive * negative))


def calibration_error(probability: np.ndarray, label: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error [Guo et al. 2017]: mean |stated - found| over equal-width bins."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    error = 0.0
    for k in np.unique(place):
        inside = place == k
        error += inside.mean() * abs(probability[inside].mean() - label[inside].mean())
    return float(error)


def psnr(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio [dB] of uint8 images (…, h, w, c): an array of shape (…)."""
    _check_same(image, reference)
    error = np.square(image.astype(np.float64) - reference).mean(axis=(-3, -2, -1))
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255.0**2 / error)


def ssim(image: np.ndarray, reference: np.ndarray, sigma: float = 1.5) -> np.ndarray:
    """Structural similarity of uint8 images (…, h, w, c): an array of shape (…).

    Gaussian window of 11 pixels, inner part only, mean over channels [Wang et al. 2004].
    """
    _check_same(image, reference)
    if min(image.shape[-3:-1]) < 11:
        raise ValueError(f"ssim needs images of at least 11x11 pixels, got {image.shape}")
    x, y = image.astype(np.float64), reference.astype(np.float64)
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * sigma**2))
    window /= window.sum()

    def blur(a: np.ndarray) -> np.ndarray:  # (…, h, w, c) -> (…, h-10, w-10, c)
        h, w = a.shape[-3] - 10, a.shape[-2] - 10
        rows = np.sum([k * a[..., i : i + h, :, :] for i, k in enumerate(window)], axis=0)
        return np.sum([k * rows[..., i : i + w, :] for i, k in enumerate(window)], axis=0)

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (luminance * structure).mean(axis=(-3, -2, -1))


def _check_same(image: np.ndarray, reference: np.ndarray) -> None:
    if image.shape != reference.shape or image.dtype != np.uint8 or reference.dtype != np.uint8:
        raise ValueError(
            "expected two uint8 images of one shape, got "
            f"{image.dtype} {image.shape} and {reference.dtype} {reference.shape}"
        )
