"""Random windows of the episodes in a dataset's arrays.

    |<------ episode 0 ------>|<--- episode 1 --->|        frames of all episodes, one after another
    o_0 o_1 o_2 …         o_T |o_0 …              |
        [n  n+1 … n+T]                                     a window: T steps, T + 1 observations
                     [… o_T  o_T]                          an episode's last: nothing follows o_T

No window crosses an episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from worldmodel.errors import UserError

ALL = slice(None)


class Batch(NamedTuple):
    """B windows of T steps; o_n and a_n stand at the same n."""

    images: np.ndarray  # uint8 (B, T+1, C, h, w, 3), cameras in the spec's order
    first: np.ndarray  # uint8 (B, C, h, w, 3) an observation of the episode at or before o_n
    first_proprio: np.ndarray  # float32 (B, P) proprioception then
    proprio: np.ndarray  # float32 (B, T+1, P)
    exists: np.ndarray  # bool (B, T) False at an episode's o_T: no action, and nothing follows
    action: np.ndarray  # float32 (B, T, A) executed
    known: np.ndarray  # bool (B, T) False where nobody recorded the actions: zeros stand there
    plan: np.ndarray  # float32 (B, T, H, A) demonstrated actions n … n+H-1
    plan_mask: (
        np.ndarray
    )  # bool (B, T, H) False past the end (the last repeats), in explorations, where not known
    outcome: np.ndarray  # float32 (B, T, 4) success, reward, terminated on arriving at o_n; value


class EpisodeInfo(NamedTuple):
    index: int  # pyright: ignore[reportIncompatibleMethodOverride]
    length: int  # env steps T
    start: int  # its first frame in the arrays
    success: bool
    seed: int
    outcome: str
    demonstration: bool  # False: an exploration, from which no plan is learned
    known: bool = True  # False: a video without actions


class Windows:
    """Windows of T steps that lie within one episode each."""

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        episodes: Sequence[EpisodeInfo],
        length: int,
        chunk: int,
    ) -> None:
        self._arrays, self.length, self.chunk = arrays, length, chunk
        long_enough = [e for e in episodes if e.length >= length]
        if not long_enough:
            longest = max((e.length for e in episodes), default=0)
            raise UserError(
                f"no episode has {length} steps (the longest has {longest}); "
                "use a smaller train.segment, or collect longer episodes"
            )
        self._first = np.array([e.start for e in long_enough])
        self._steps = np.array([e.length for e in long_enough])
        self._shown = np.array([e.demonstration and e.known for e in long_enough])
        self._known = np.array([e.known for e in long_enough])
        self._lengths = self._steps - length + 2  # windows of each episode; the last ends with o_T
        self._ends = np.cumsum(self._lengths)
        # window numbers with those of demonstrations first
        self._order = np.argsort(~np.repeat(self._shown, self._lengths), kind="stable")

    def __len__(self) -> int:
        return int(self._ends[-1])

    def sample(
        self, batch: int, rng: np.random.Generator, demonstrations: float, part: slice = ALL
    ) -> Batch:
        """``batch`` windows, of which about this share comes from demonstrations.

        Within demonstrations and within explorations each start is equally likely. Only a ``part``
        of those drawn is read: what one of several processes is after, here and below.
        """
        shown = int(self._lengths[self._shown].sum())
        if shown in (0, len(self)):
            return self.get(rng.integers(0, len(self), batch), rng, part=part)
        shows = rng.random(batch) < demonstrations
        place = np.where(
            shows, rng.integers(0, shown, batch), rng.integers(shown, len(self), batch)
        )
        return self.get(self._order[place], rng, part=part)

    def frames(
        self, count: int, rng: np.random.Generator, part: slice = ALL
    ) -> tuple[np.ndarray, np.ndarray]:
        """Random observations: images uint8 (count, C, h, w, 3) and proprio (count, P)."""
        place = np.sort(rng.integers(0, len(self), count))[part]
        episode = np.searchsorted(self._ends, place, side="right")
        frame = self._first[episode] + place - self._ends[episode] + self._lengths[episode]
        return self._arrays["images"][frame], self._arrays["proprio"][frame]

    def motions(
        self, count: int, steps: int, rng: np.random.Generator, part: slice = ALL
    ) -> tuple[np.ndarray, np.ndarray]:
        """Random stretches of ``steps`` steps (or of the longest episode, where that is shorter):
        proprio (count, steps + 1, P) and the executed actions (count, steps, A).

        They are of episodes whose actions are known; where there is none, both are empty."""
        lengths = self._steps * self._known
        if not lengths.any():
            count, lengths = 0, self._steps
        steps = min(steps, int(lengths.max()))
        room = np.maximum(lengths - steps + 1, 0)
        ends = np.cumsum(room)
        place = rng.integers(0, ends[-1], count)[part]
        episode = np.searchsorted(ends, place, side="right")
        start = self._first[episode] + place - (ends - room)[episode]
        frames = start[:, None] + np.arange(steps + 1)
        return self._arrays["proprio"][frames], self._arrays["action"][frames[:, :-1]]

    def stretches(
        self, count: int, steps: int, rng: np.random.Generator, demonstrations: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Random stretches of ``steps`` steps, or of a whole episode where that is shorter.

        Returns the number (count,) of the window that each begins with, and how many windows
        (count,) it has.
        """
        kinds = [k for k in (self._shown.nonzero()[0], (~self._shown).nonzero()[0]) if len(k)]
        second = (rng.random(count) >= demonstrations) & (len(kinds) == 2)
        episode = np.array([rng.choice(kinds[k]) for k in second.astype(int)])
        spare = np.maximum(self._steps[episode] - steps, 0)
        offset = rng.integers(0, spare + 1)
        first = self._ends[episode] - self._lengths[episode] + offset
        return first, np.minimum(self._steps[episode], steps) - self.length + 2

    def get(
        self, indices: np.ndarray, rng: np.random.Generator | None = None,
        length: int | None = None, part: slice = ALL,
    ) -> Batch:  # fmt: skip
        """The windows of these numbers (0 to len - 1), or ``length`` steps from where they begin.

        ``first`` is the episode's first observation, or with ``rng`` any at or before o_n. Past an
        episode's end its last observation stands.
        """
        T, H, arrays = length or self.length, self.chunk, self._arrays
        episode = np.searchsorted(self._ends, indices, side="right")
        offset = indices - np.where(episode > 0, self._ends[episode - 1], 0)
        start = self._first[episode] + offset
        first = self._first[episode] + (rng.integers(0, offset + 1) if rng else 0)
        episode, start, first = episode[part], start[part], first[part]
        frames = start[:, None] + np.arange(T + 1)  # (B, T+1)
        last = (self._first + self._steps)[episode] - 1  # the frame of the last action
        exists = frames[:, :-1] <= last[:, None]
        frames = np.minimum(frames, last[:, None] + 1)
        ahead = frames[:, :-1, None] + np.arange(H)  # (B, T, H)
        plan_mask = (ahead <= last[:, None, None]) & self._shown[episode, None, None]
        ahead = np.minimum(ahead, last[:, None, None])
        return Batch(
            arrays["images"][frames], arrays["images"][first], arrays["proprio"][first],
            arrays["proprio"][frames], exists,
            arrays["action"][frames[:, :-1]], np.repeat(self._known[episode, None], T, axis=1),
            arrays["label"][ahead], plan_mask,
            arrays["outcome"][frames[:, :-1]],
        )  # fmt: skip
