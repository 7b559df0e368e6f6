"""How true imagined frames are: to the simulator's state, in mm, and to its pictures, in dB."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from worldmodel.metrics import mean_interval, median_interval, psnr, ssim
from worldmodel.probe import StateProbe
from worldmodel.recording import Recording

#: (pictures {camera: (h, w, 3)}) -> objects seen: 0 vanished, 1 there, 2 doubled
Count = Callable[[dict[str, np.ndarray]], int]
SPARSE = 5  # SSIM and counts are taken at every fifth step


class Fidelity:
    """Errors of imagined episodes; arrays are (episodes, steps), NaN past an episode's end."""

    def __init__(
        self, imagined: Sequence[np.ndarray], recordings: Sequence[Recording],
        probe: StateProbe | None, cameras: tuple[str, ...], count: Count | None,
    ) -> None:  # fmt: skip
        """``imagined``: per episode uint8 (T, C, h, w, 3), beside o_1 … o_T of its recording.

        Without a ``probe`` nothing is read off them: pictures are compared with pictures.
        """
        steps = max(map(len, imagined))
        self.arrays: dict[str, np.ndarray] = {}
        for i, (frames, real) in enumerate(zip(imagined, recordings, strict=True)):
            T = len(frames)
            shown, found = real.images[1 : T + 1], probe.read(frames) if probe else {}
            row: dict[str, np.ndarray] = {
                "psnr": np.minimum(psnr(frames, shown), 60.0).mean(-1)  # inf where nothing moved
            }
            for name in probe.positions if probe else ():
                wrong = found[name] - real.truth[name][1 : T + 1]
                row[f"{name}_mm"] = 1000 * np.linalg.norm(wrong, axis=-1)
            for name in probe.flags if probe else ():
                row[f"{name}_agreement"] = (found[name] == real.truth[name][1 : T + 1]).astype(
                    float
                )
            some = np.arange(SPARSE - 1, T, SPARSE)
            row["ssim"] = np.full(T, np.nan)
            if len(some):
                row["ssim"][some] = ssim(frames[some], shown[some]).mean(-1)
            if count is not None:
                seen = np.full(T, np.nan)
                for n in some:
                    seen[n] = count(dict(zip(cameras, frames[n], strict=True)))
                row["vanished"] = np.where(np.isnan(seen), np.nan, seen == 0)
                row["doubled"] = np.where(np.isnan(seen), np.nan, seen == 2)
            for name, values in row.items():
                array = self.arrays.setdefault(name, np.full((len(imagined), steps), np.nan))
                array[i, :T] = values

    def figures(self) -> dict[str, Any]:
        """One number with its 95 % interval for each error; intervals are over episodes."""
        rows: dict[str, Any] = {"episodes": len(self.arrays["psnr"])}
        for name, array in self.arrays.items():
            if name.endswith("_mm"):
                rows[name] = median_interval(np.nanmedian(array, axis=1))
            elif name in ("vanished", "doubled"):
                # an object hidden for a moment is not gone: the share of episodes in which it is,
                # in two looks one after another
                looks = array[:, SPARSE - 1 :: SPARSE] == 1
                rows[name] = float((looks[:, 1:] & looks[:, :-1]).any(axis=1).mean())
            else:
                with np.errstate(invalid="ignore"):
                    means = np.array([np.nanmean(r) for r in array if not np.isnan(r).all()])
                rows[name] = mean_interval(means) if len(means) else None
        return rows

    def curve(self, name: str) -> tuple[list[float], list[float], list[float], list[float]]:
        """(steps, middle, low, high) over the horizon, where at least ten episodes go on."""
        array = self.arrays[name]
        middle_of = median_interval if name.endswith("_mm") else mean_interval
        rows = []
        for n in range(array.shape[1]):
            values = array[~np.isnan(array[:, n]), n]
            if len(values) >= min(10, len(array)):
                rows.append((n + 1, *middle_of(values)))
        steps, middle, low, high = zip(*rows, strict=True)
        return list(steps), list(middle), list(low), list(high)
