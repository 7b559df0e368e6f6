"""Judging: outcome readings against what happened, and policies against each other."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from conftest import ToyEnv, ToyPolicy
from test_imagined_env import model as reading
from tiny import SIDE, A, C, P, tiny_model

from worldmodel import judge as judging
from worldmodel import practise as practising
from worldmodel.calibration import figures, granted
from worldmodel.imagine import outcomes_of
from worldmodel.imagined_episodes import play
from worldmodel.judge import JudgeConfig, summary
from worldmodel.leaves import OUTCOMES, READINGS
from worldmodel.practise import Practice
from worldmodel.probe import StateProbe
from worldmodel.recording import Recording, record
from worldmodel.retrace import BATCH, Retraced, dream, watch
from worldmodel.rollout import RolloutConfig
from worldmodel.spec import spec_of_env
from worldmodel.starts import starts_from

SAMPLER = RolloutConfig(flow_steps=1, precision="fp32")


def recording(length: int, seed: int = 0) -> Recording:
    rng = np.random.default_rng(seed)
    T = length
    return Recording(
        rng.integers(0, 256, (T + 1, C, SIDE, SIDE, 3), dtype=np.uint8),
        rng.normal(size=(T + 1, P)).astype(np.float32),
        rng.uniform(-1, 1, (T, A)).astype(np.float32), {"hand": rng.normal(size=(T + 1, 3))}, seed,
        np.arange(T) == T - 1, np.arange(T) == T - 1, rng.normal(size=T).astype(np.float32),
        "success",
    )  # fmt: skip


class Still:
    """Does nothing; remembers what it was shown."""

    def reset(self, seeds, mask=None) -> None:
        self.seen: list[dict[str, np.ndarray]] = []

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        self.seen.append(obs)
        return np.zeros((len(obs["proprio"]), A), np.float32)


def test_a_recording_says_what_the_env_said() -> None:
    env = ToyEnv(size=(32, 32))
    story = record(env, ToyPolicy(env), spec_of_env(env), 5)
    assert story.success.tolist() == [False] * (len(story) - 1) + [True]
    assert story.terminated[-1]
    assert story.reward.sum() == 1
    assert story.outcome == "success"


def test_dreams_are_as_long_as_what_they_follow_whatever_stands_beside_them() -> None:
    stories = [recording(5, 1), recording(2, 2), recording(7, 3)]
    made = tiny_model().eval()
    told: list[int] = []
    together = dream(made, stories, SAMPLER, 0, told.append)
    assert sum(told) == 3
    for story, dreamt in zip(stories, together, strict=True):
        assert dreamt.images.shape == (len(story), C, SIDE, SIDE, 3)
        assert dreamt.proprio.shape == (len(story), P)
        assert dreamt.outcomes.shape == (len(story), len(READINGS))


def test_dreams_that_were_cut_off_go_on_from_what_was_kept(tmp_path) -> None:
    stories = [recording(5 + k % 3, k) for k in range(BATCH + 2)]
    made, told = tiny_model().eval(), []

    def cut(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dream(made, stories, SAMPLER, 0, cut, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1  # of two batches
    first = (tmp_path / "00000.safetensors").stat()
    on_end = dream(made, stories, SAMPLER, 0, told.append, tmp_path)
    assert sum(told) == len(stories)
    assert (tmp_path / "00000.safetensors").stat().st_mtime_ns == first.st_mtime_ns
    for ours, theirs in zip(on_end, dream(made, stories, SAMPLER, 0, told.append), strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert np.array_equal(a, b)

    stories[0].action[0] += 0.25  # another episode, as an env may do with the same seed
    again = dream(made, stories, SAMPLER, 0, told.append, tmp_path)
    fresh = dream(made, stories, SAMPLER, 0, told.append)
    assert np.array_equal(again[0].proprio, fresh[0].proprio)
    assert not np.array_equal(again[0].proprio, on_end[0].proprio)


def test_what_is_watched_stays_as_it_was() -> None:
    stories = [recording(5, 1), recording(3, 2)]
    watched = watch(tiny_model().eval(), stories, lambda n: None)
    for story, seen in zip(stories, watched, strict=True):
        assert np.array_equal(seen.images, story.images[1:])
        assert np.allclose(seen.proprio, story.proprio[1:])


def test_only_what_is_imagined_strays() -> None:
    doubting = tiny_model().eval()
    doubting.doubt[-1] = 20.0
    stories = [recording(3, 1)]
    (seen,) = watch(doubting, stories, lambda n: None)
    (dreamt,) = dream(doubting, stories, SAMPLER, 0, lambda n: None)
    assert not seen.outcomes[:, -1].any()
    assert (dreamt.outcomes[:, -1] > 0.99).all()


def test_perfect_and_blind_readings() -> None:
    stories = [recording(6, k) for k in range(8)]
    for story in stories[4:]:  # failures
        story.success[:] = story.terminated[:] = False
    perfect = [
        np.stack([s.success, s.reward, s.terminated, s.reward, 0 * s.reward], axis=1).astype(
            np.float32
        )
        for s in stories
    ]
    found = figures(perfect, stories)
    assert found["success_auc"] == 1
    assert found["success_ece"] == 0
    assert found["reward_mae"] == 0
    assert found["true_positive_rate"][0] == 1
    assert found["false_positive_rate"][0] == 0
    assert found["granted"] == {"success": {"episodes": 8, "granted": 4}}
    sure = np.array(READINGS) != "strayed"
    generous = [np.ones_like(p) * sure for p in perfect]
    found = figures(generous, stories)
    assert found["success_auc"] == 0.5
    assert found["success_ece"] == pytest.approx(1 - 4 / 48)
    assert found["false_positive_rate"][0] == 1
    found = figures(generous, stories, believed=[not s.success[-1] for s in stories])
    assert found["false_positive_rate"][0] == 1
    assert found["true_positive_rate"][0] == 0


def test_imagined_successes_are_counted_with_doubt_without_and_where_things_lie_still() -> None:
    """Four stories that fail, of each of which success is read; one is doubted, two are shoved."""
    stories = [recording(3, k) for k in range(4)]
    for k, story in enumerate(stories):
        story.success[:] = story.terminated[:] = False
        story.images[:, 0, 0, 0, 0] = k  # by which the probe knows it
    won = np.zeros((3, len(READINGS)), np.float32)
    won[-1, :3] = 1.0
    doubted = won.copy()
    doubted[0, READINGS.index("strayed")] = 1.0

    def read(images: np.ndarray) -> dict[str, np.ndarray]:
        away = 0.05 if images[0, 0, 0, 0, 0] in (1, 2) else 0.01
        can = np.linspace((0, 0, 0), (away, 0, 0), len(images))
        return {"gripper": can, "can": can, "in hand": np.zeros(len(images), bool)}

    probe = SimpleNamespace(positions=("gripper", "can"), flags=("in hand",), read=read)
    told = [Retraced(s.images[1:], s.proprio[1:], won) for s in stories]
    dreamt = [told[0], told[1], told[2], told[3]._replace(outcomes=doubted)]
    found = outcomes_of(list(zip(stories, told, dreamt, strict=True)), cast(StateProbe, probe))
    assert {name: row["false_positive_rate"][0] for name, row in found.items()} == {
        "real frames": 1.0, "imagined": 0.75, "imagined, never doubted": 1.0,
        "imagined, believed where things lie still": 0.5,
    }  # fmt: skip
    probe.flags = ()
    assert len(outcomes_of(list(zip(stories, told, dreamt, strict=True)), probe)) == 2


def test_a_reading_that_knows_the_bonus_alone_is_found_out() -> None:
    stories = [recording(6, k) for k in range(8)]
    for story in stories:
        story.reward[:-1] = np.linspace(0.01, 0.05, 5)
    true = np.stack(
        [np.stack([s.success, s.reward, s.terminated, s.reward, 0 * s.reward], 1) for s in stories]
    )
    blind = true.copy()
    blind[:, :-1, 1] = np.linspace(0.05, 0.01, 5)
    assert figures(true, stories)["reward_correlation_before_success"] == pytest.approx(1)
    found = figures(blind, stories)
    assert found["reward_correlation"] > 0.99
    assert found["reward_correlation_before_success"] == pytest.approx(-1)


def test_an_episode_that_ended_otherwise_is_no_success_later() -> None:
    rows = np.zeros((4, len(READINGS)), np.float32)
    rows[1, OUTCOMES.index("terminated")] = 0.9
    rows[3, OUTCOMES.index("success")] = 0.9
    assert not granted(rows)
    assert granted(rows[2:])


@pytest.mark.parametrize(("logit", "won"), [(5.0, True), (-5.0, False)])
def test_inside_the_model_the_outcome_leaf_alone_decides(logit: float, won: bool) -> None:
    story, policy = recording(3), Still()
    starts = [
        {"front": story.images[k, 0], "wrist": story.images[k, 1], "proprio": story.proprio[k]}
        for k in range(3)
    ]
    judge = reading(logit)
    played = dict(play(policy, starts_from(starts, judge.spec), judge, 4, SAMPLER, 0))
    episodes = [played[i] for i in range(3)]
    assert [e.success for e in episodes] == [won] * 3
    assert [len(e) for e in episodes] == [1 if won else 4] * 3
    assert len(policy.seen) == (1 if won else 4)
    assert np.array_equal(policy.seen[0]["front"], story.images[:3, 0])
    for k, e in enumerate(episodes):
        assert np.array_equal(e.images[0], story.images[k])
        assert e.images.shape == (len(e) + 1, *story.images.shape[1:])
        assert e.proprio.shape == (len(e) + 1, P)
        assert not e.action.any()


def test_an_episode_ends_without_success_where_what_is_imagined_has_strayed() -> None:
    story, judge = recording(3), reading(0.0)
    judge.doubt[-1] = 1.0
    start = {"front": story.images[0, 0], "wrist": story.images[0, 1], "proprio": story.proprio[0]}
    ((_, episode),) = play(Still(), starts_from([start], judge.spec), judge, 4, SAMPLER, 0)
    assert (episode.success, len(episode)) == (False, 1)


def test_summary_of_a_judge_that_agrees_and_of_one_that_turns_all_around() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for k, rate in enumerate((0.1, 0.3, 0.5, 0.7, 0.9)):
        real = (rng.random(200) < rate).tolist()
        rows.append({"policy": f"p{k}", "real": real, "imagined": real})
    found = summary(rows)
    assert found["pearson"][0] == pytest.approx(1)
    assert found["spearman"][0] == pytest.approx(1)
    assert found["mean_maximum_rank_violation"][0] == 0
    assert found["mean_absolute_gap"][0] == 0
    assert found["table"][2]["same_verdict"] == 1
    turned = [{**r, "imagined": [not x for x in r["real"]]} for r in rows]
    found = summary(turned)
    assert found["pearson"][0] == pytest.approx(-1)
    assert found["mean_maximum_rank_violation"][0] > 0.5
    low, high = found["mean_absolute_gap"][1:]
    assert low < found["mean_absolute_gap"][0] < high


def judged(
    folder: Path, logit: float, starts: int = 1, probe: StateProbe | None = None,
    still: float = 0.02, world: str = "this",
) -> list[bool]:  # fmt: skip
    """Whether successes of someone who does nothing are believed inside a model that reads so."""
    story, made = recording(starts), reading(logit)
    seen = [
        {"front": story.images[k, 0], "wrist": story.images[k, 1], "proprio": story.proprio[k]}
        for k in range(starts)
    ]
    config = JudgeConfig(episodes=starts, max_steps=2, still=still, workers=1)
    practice = Practice(Still, lambda: made, config.max_steps, SAMPLER, 0, folder / "imagined")
    return judging._judged_inside(
        practice, starts_from(seen, made.spec), made.spec, probe, config,
        {"checkpoint_sha256": world}, lambda n, text: None,
    )  # fmt: skip


def test_finished_verdicts_are_kept(tmp_path: Path) -> None:
    assert judged(tmp_path, 5.0) == [True]
    assert not (tmp_path / "imagined").exists()
    assert judged(tmp_path, -5.0) == [True]  # read from the file
    assert judged(tmp_path, -5.0, world="retrained") == [False]  # whose verdicts these are not
    (tmp_path / "imagined.json").write_text(json.dumps({"identity": {}, "success": [True]}))
    assert judged(tmp_path, -5.0) == [False]


def test_a_judge_that_was_killed_goes_on_and_not_with_the_episodes_of_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(practising, "PART", 2)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr(judging, "side_by_side", killed)  # all parts are there, no verdict is
        with pytest.raises(KeyboardInterrupt):
            judged(tmp_path, 5.0, starts=3)
    assert len(list((tmp_path / "imagined").glob("*.safetensors"))) == 2
    (tmp_path / "imagined" / "from-000002.safetensors").unlink()
    assert judged(tmp_path, -5.0, starts=3) == [True, True, False]  # a part is played anew

    with monkeypatch.context() as cut:
        cut.setattr(judging, "side_by_side", killed)
        with pytest.raises(KeyboardInterrupt):
            judged(tmp_path, 5.0, starts=3, world="another")
    assert judged(tmp_path, -5.0, starts=3, world="a third") == [False] * 3


def test_a_success_is_believed_where_the_thing_lay_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[int, ...]] = []

    def moved(probe: object, images: np.ndarray) -> float:
        read.append(images.shape)
        return 0.015

    monkeypatch.setattr(judging, "moved", moved)
    probe = cast(StateProbe, object())
    assert judged(tmp_path / "won", 5.0, probe=probe, still=0.02) == [True]
    assert judged(tmp_path / "won", 5.0, probe=probe, still=0.01) == [False]  # the same, asked anew
    assert judged(tmp_path / "lost", -5.0, probe=probe) == [False]  # however still it lay
    assert read == [(2, C, SIDE, SIDE, 3)]


def test_senseless_comparisons_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one policy"):
        JudgeConfig(policies=())
    with pytest.raises(ValueError, match="still > 0"):
        JudgeConfig(still=0.0)
