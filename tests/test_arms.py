"""Arms of an experiment: what is run, that it goes on where it was stopped, and its figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from worldmodel.arms import ArmsConfig, Stage, parse_arm, run_stages, stages
from worldmodel.arms_report import bootstrap, gather, spread, table, write_report
from worldmodel.errors import RunError
from worldmodel.metrics import sign_test

DATA = Path("data/none")


def test_an_arm_is_an_objective_and_words() -> None:
    arm = parse_arm("flow+objective.gamma=0.4+steps=400+policy.flow_steps=1", ArmsConfig(DATA))
    assert arm.train == ("objective=flow", "steps=400", "keep_every=200", "objective.gamma=0.4")
    assert arm.eval == ("policy.flow_steps=1",)
    assert arm.marks == (200, 400)
    assert "+" not in arm.folder
    assert "/" not in arm.folder


@pytest.mark.parametrize(
    ("arm", "complaint"),
    [("flow+gamma", "key=value"), ("flow+steps=0", "steps"), ("flow+steps=7", "2 parts")],
)
def test_an_arm_that_cannot_be_read_is_refused(arm: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ArmsConfig(DATA, arms=(arm,))


def test_two_arms_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="different"):
        ArmsConfig(DATA, arms=("flow", "flow"))


def test_every_arm_of_a_seed_comes_before_the_next_seed() -> None:
    config = ArmsConfig(DATA, arms=("flow", "dts"), seeds=2, steps=10, along=1)
    found = list(stages(config, Path("out")))
    who = [todo[0].out.parts[1:3] for todo in found]
    assert who == [("flow", "seed-0"), ("dts", "seed-0"), ("flow", "seed-1"), ("dts", "seed-1")]
    train, *measured = found[3]
    assert "seed=1" in train.words
    assert "objective=dts" in train.words
    # both marks: acting, and what is measured without
    assert [stage.out.parts[-2:] for stage in measured] == [
        ("000005", "eval"), ("000005", "heldout"), ("000010", "eval"), ("000010", "heldout"),
    ]  # fmt: skip
    assert all(f"{train.out}/checkpoints/" in " ".join(stage.words) for stage in measured)


def test_what_is_done_is_not_done_again_and_a_failure_says_which_command(tmp_path: Path) -> None:
    done = Stage(("no such command",), tmp_path / "done", "first: trained")
    done.out.mkdir()
    (done.out / "result.json").write_text("{}")
    said: list[str] = []
    run_stages([[done]], 1, lambda n, text: said.append(text))
    assert said == ["first: trained"]
    bad = Stage(("eval", "episodes=none_of_this"), tmp_path / "bad", "second: evaluated")
    with pytest.raises(
        RunError, match=r"second: evaluated: failed with exit code 2[\s\S]*episodes"
    ):
        run_stages([[done, bad]], 1, lambda n, text: None)


def test_the_sign_test_is_the_exact_binomial() -> None:
    assert sign_test(5, 5) == 1.0
    assert sign_test(0, 0) == 1.0
    assert sign_test(10, 0) == pytest.approx(2 / 2**10)
    assert sign_test(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)


def test_the_interval_redraws_trainings_too() -> None:
    rng = np.random.default_rng(1)
    alike = (rng.random((3, 200)) < 0.5).astype(float)
    apart = np.stack([alike[0] * 0, alike[1], alike[2] * 0 + 1])
    width = [np.ptp(bootstrap(x, lambda w: float(w.mean()))[1:]) for x in (alike, apart)]
    assert width[1] > 3 * width[0]


def pretend(config: ArmsConfig, out: Path, wins: dict[str, list[list[bool]]]) -> None:
    """Write what the commands would have written."""
    for todo in stages(config, out):
        for stage in todo:
            stage.out.mkdir(parents=True, exist_ok=True)
            arm, seed = stage.out.relative_to(out).parts[:2]
            if stage.words[0] == "train":
                rows = [
                    {"step": s, "hours": s / 100, "cosine_plan": 0.5} for s in (1, 5, 10)
                ]  # fmt: skip
                (stage.out / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
            elif stage.words[0] == "eval":
                won = wins[arm][int(seed.removeprefix("seed-"))]
                rows = [{"seed": 100 - i, "success": w} for i, w in enumerate(won)]
                (stage.out / "episodes.jsonl").write_text("\n".join(map(json.dumps, rows)))
            else:
                figures = {
                    "loss at flow time": {"0.5": {"plan": 1.0, "next": 0.1}},
                    "K=4": {"plan_mae": [0.2, 0.1, 0.3]}, "K=2": {"can_mm": [30.0, 20.0, 40.0]},
                }  # fmt: skip
                (stage.out / "result.json").write_text(json.dumps(figures))


def test_arms_are_compared_episode_by_episode(tmp_path: Path) -> None:
    config = ArmsConfig(DATA, arms=("flow", "dts"), seeds=2, steps=10, episodes=4, along=4)
    flow = [[True, False, False, False], [True, True, False, False]]
    dts = [[True, True, False, False], [True, True, True, False]]
    pretend(config, tmp_path, {"flow": flow, "dts": dts})
    result = gather(config, tmp_path)
    assert result["arms"]["flow"][-1]["success"][0] == 3 / 8
    assert result["arms"]["dts"][-1]["success of each seed"] == [0.5, 0.75]
    assert result["arms"]["flow"][0]["hours"] == 0.05
    found = result["differences"]["dts"]
    assert found["difference"][0] == 0.25
    assert (found["episodes better"], found["episodes worse"]) == (2, 0)
    assert found["p"] == sign_test(2, 0)
    header, rows = table(result)
    assert header == ["arm", "flow", "dts"]
    found = {name: values for name, *values in rows}
    assert found["imagined can [mm]"] == 2 * ["30.00"]  # of all trainings
    assert spread((30.0, 29.0, 31.5), 2) == "30.00 [29.00, 31.50]"
    assert found["against the first, p"][0] == "–"
    write_report(result, config, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "dts" in page
    assert "<svg" in page
