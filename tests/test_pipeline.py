"""The whole way on real input, small: collect, check, train, resume, evaluate, imagine, demo."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from reading import read_report

from policies.flow_policy import FlowPolicy
from policies.steered import SteeredPolicy
from worldmodel import cli, practise
from worldmodel.checkpoint import load
from worldmodel.env_config import EnvConfig, make_env
from worldmodel.imagined_episodes import ImaginedEpisode
from worldmodel.lerobot import read_video
from worldmodel.trials import Actor

#: a model that trains in a second
SMALL = ["model.trunk.width=64", "model.trunk.heads=2", "model.trunk.depth=2", "optim.warmup=2"]
TRAIN = ["train", "batch=4", "steps=6", "holdout=1", "validate_every=3", "log_every=1", "threads=1"]
TRAIN += ["settle=2"]


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset of three demonstrations and a barely trained checkpoint."""
    place = tmp_path_factory.mktemp("pipeline")
    collect = ["collect", "episodes=3", "workers=1", "per_file=2", f"out={place / 'data'}"]
    assert cli.main(collect) == 0
    assert cli.main([*TRAIN, *SMALL, f"data={place / 'data'}", f"out={place / 'run'}"]) == 0
    return place


def test_the_dataset_is_sound(place: Path) -> None:
    summary = result(place / "data")
    assert summary["episodes"] == 3
    assert summary["success_rate"] > 0.5
    assert cli.main(["data", "check", f"data={place / 'data'}"]) == 0


def test_training_leaves_a_checkpoint_curves_and_a_report(place: Path) -> None:
    assert np.isfinite(result(place / "run")["val_loss_plan"])
    about = load(place / "run" / "checkpoint").about
    assert about["training"]["step"] == 6
    assert about["versions"]["torch"]
    assert load(place / "run" / "checkpoint").model.config.correct is not None  # decided at the end
    html = (place / "run" / "report.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in html
    assert "<svg" in html
    read_report(place / "run" / "report.html")


def test_a_finished_run_can_be_used_as_a_start_but_not_overwritten(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = [*TRAIN, *SMALL, f"data={place / 'data'}", f"out={place / 'run'}"]
    assert cli.main(again) == 2
    assert "resume=true" in capsys.readouterr().err
    out = tmp_path / "fine"
    words = [*TRAIN, f"init={place / 'run'}", f"data={place / 'data'}", f"out={out}"]
    assert cli.main(words) == 0
    assert load(out / "checkpoint").model.config.trunk.width == 64


def test_data_of_another_camera_set_or_frequency_do_not_suit_a_checkpoint(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, value, message in (
        ("control_frequency", 20.0, "control_frequency: the dataset has 20.0, the checkpoint 10.0"),
        ("cameras", ["front"], "cameras: the dataset has ('front',), the checkpoint"),
    ):
        data = tmp_path / key
        shutil.copytree(place / "data", data, ignore=shutil.ignore_patterns("cache"))
        file = data / "meta" / "worldmodel.json"
        about = json.loads(file.read_text(encoding="utf-8"))
        about["spec"][key] = value
        file.write_text(json.dumps(about), encoding="utf-8")
        words = [*TRAIN, f"init={place / 'run'}", f"data={data}", f"out={tmp_path / 'out'}"]
        assert cli.main(words) == 2
        assert message in capsys.readouterr().err


def test_the_checkpoint_acts_and_imagines(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = f"policy={place / 'run'}"
    out = tmp_path / "eval"
    assert cli.main(["eval", policy, "episodes=2", "workers=1", "max_steps=8", f"out={out}"]) == 0
    summary = result(out)
    assert summary["episodes"] == 2
    assert set(summary) >= {"success_rate", "wilson95", "env", "policy", "seed", "outcomes"}
    assert "data:video/mp4;base64," in (out / "report.html").read_text(encoding="utf-8")
    read_report(out / "report.html")

    many = gymnasium.make_vec("worldmodel/Imagined-v0", num_envs=2, checkpoint=place / "run")
    obs, _ = many.reset(seed=0)
    assert many.observation_space.contains(obs)
    made = make_env(EnvConfig())  # the same spaces as the real one
    assert many.single_observation_space == made.observation_space
    assert many.single_action_space == made.action_space

    out = tmp_path / "demo"
    words = ["demo", policy, "episodes=1", "imagine=3", "workers=1", f"out={out}"]
    assert cli.main(words) == 0
    assert np.isfinite(result(out)["imagined_psnr"])
    assert (out / "videos" / "imagined.mp4").stat().st_size > 1000

    probe = tmp_path / "probe"
    assert cli.main(["probe", "episodes=4", "updates=20", f"out={probe}"]) == 0
    assert (probe / "probe.safetensors").exists()
    assert np.isfinite(result(probe)["can_mm"]).all()
    out = tmp_path / "rollout"
    words = ["rollout", f"checkpoint={place / 'run'}", f"probe={probe}", "episodes=2", "steps=6"]
    words += [
        "branch.starts=1",
        "branch.branches=3",
        "branch.length=2",
        "videos=1",
        "endless.steps=25",
    ]
    words += ["endless.patience=10", f"out={out}"]
    assert cli.main(words) == 0
    found = result(out)
    assert found["demonstrations"]["real frames"]["psnr"][0] == 60
    mixed = [found["demonstrations"][f"only {c} imagined"]["psnr"][0] for c in ("front", "wrist")]
    assert found["demonstrations"]["imagined"]["psnr"][0] < min(mixed) < 60
    assert np.isfinite(found["explorations"]["imagined"]["can_mm"]).all()
    assert np.isfinite(found["actions"]["gripper"]["error_mm"])
    assert found["endless"]["starts"] >= 3  # more where this model takes the task for done
    assert found["endless"]["judged"] == 3
    film = list(read_video(out / "videos" / "endless.mp4"))
    assert len(film) == 25
    marked = [i for i, frame in enumerate(film) if frame[:6].min() > 220]
    assert len(marked) == found["endless"]["starts"]
    assert np.diff([*marked, 25]).max() <= 10  # its patience
    read_report(out / "report.html")
    html = (out / "report.html").read_text(encoding="utf-8")
    assert html.count("data:video/mp4;base64,") == 3  # demonstration, exploration, mistake
    assert found["outcomes"]["imagined"]["episodes"] == 6
    assert found["demonstrations"]["proprio_mm"] == {}  # too few episodes for an interval
    assert not (out / "parts").exists()
    other = ["rollout", "probe=''", "episodes=2", "steps=6", f"out={out}"]
    assert cli.main(other) == 2
    assert "holds the rollout of something else" in capsys.readouterr().err

    out = tmp_path / "judge"
    words = ["judge", f"policies=[{place / 'run'},{place / 'run'}+0.5,random]", "episodes=2"]
    words += [f"checkpoint={place / 'run'}", "max_steps=4", "workers=1", f"out={out}"]
    words += ["probe=pick_can_probe"]
    assert cli.main(words) == 0
    assert result(out)["doubt"] is False
    assert [row["policy"] for row in result(out)["table"]][2] == "random"
    read_report(out / "report.html")
    assert cli.main(words) == 0  # goes on from what is finished
    out = tmp_path / "bench"
    words = ["bench", "rollout", f"checkpoint={place / 'run'}", "steps=200", "batches=[1,3]"]
    assert cli.main([*words, "timed=3", f"out={out}"]) == 0
    assert result(out)["batch 3: frames_per_s"] > 0
    words = ["bench", "env", f"imagined={place / 'run'}", "num_envs=[2]", "steps=5"]
    out = tmp_path / "bench_env"
    assert cli.main([*words, "imagined_steps=2", f"out={out}"]) == 0
    rates = result(out)
    assert rates["imagined, 2 at once: ratio"] > 0
    assert rates["imagined, 2 at once: steps_per_s"] < 1e5


def test_an_agent_is_trained_and_tried_before_and_after(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "agent", f"policy={place / 'run'}", f"checkpoint={place / 'run'}", f"data={place / 'data'}",
        "rounds=2", "updates=2", "batch=4", "keep=nothing", "test_episodes=1", "workers=1",
        f"out={tmp_path}",
    ]  # fmt: skip
    assert cli.main(words) == 0
    found = result(tmp_path)
    assert found["keep"] == "nothing"
    assert list(found["tried"]) == ["start", "improved"]
    assert [row["episodes"] for row in found["tried"].values()] == [1, 1]
    assert len(found["rounds"]["improved"]) == 2
    assert cli.main([*words, "every_round=true"]) == 0  # trains nothing again, tries one more out
    every = result(tmp_path)
    assert list(every["tried"]) == ["start", "improved-1", "improved"]
    assert every["tried"]["improved"] == found["tried"]["improved"] | {
        "beside": every["tried"]["improved"]["beside"]
    }
    assert every["rounds"] == found["rounds"]
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Success in the simulator, by rounds trained" in html
    assert "How the episodes ended" in (tmp_path / "report.html").read_text(encoding="utf-8")
    read_report(tmp_path / "report.html")
    assert cli.main([*words, "updates=3"]) == 2
    assert "updates: 2, now 3" in capsys.readouterr().err


def test_who_practises_may_be_led_and_is_tried_out_without(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    practised: list[Actor] = []

    def won(policy, starts, model, steps, sampler, seed, worlds):
        practised.append(policy)
        still = np.zeros((2, model.spec.A), np.float32)
        images, proprio = (x[[0, 0, 0]] for x in (starts.images, starts.proprio))
        yield from ((i, ImaginedEpisode(images, proprio, still, True)) for i in range(len(starts)))

    monkeypatch.setattr(practise, "play", won)
    words = [
        "agent", f"policy={place / 'run'}", f"checkpoint={place / 'run'}", f"data={place / 'data'}",
        "rounds=1", "episodes=2", "updates=1", "batch=4", "test_episodes=1", "workers=1",
    ]  # fmt: skip
    led = [*words, "probe=pick_can_probe", f"out={tmp_path / 'led'}"]
    assert cli.main([*led, "controls=true"]) == 0
    assert cli.main([*words, f"out={tmp_path / 'plain'}"]) == 0
    first, control, plain = practised
    assert isinstance(first, SteeredPolicy)
    assert isinstance(control, SteeredPolicy)
    assert (first.steering.shuffled, control.steering.shuffled) == (False, True)
    assert type(plain) is FlowPolicy
    tried = json.loads((tmp_path / "led/tried/improved/result.json").read_text(encoding="utf-8"))
    assert "weights_sha256" in tried
    assert not {"probe", "world"} & set(tried)


def test_objectives_are_trained_acted_with_and_measured_side_by_side(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [
        w
        for w in (*TRAIN[1:], *SMALL)
        if not w.startswith(("steps", "holdout", "threads", "settle"))
    ]
    bench = [
        "bench", "objective", f"data={place / 'data'}", "holdout=1", "seeds=1", "steps=2",
        "marks=1", "arms=['flow','mid+objective.gamma=0.5']", f"train={small}", "episodes=1",
        "eval=['env=pick_can','max_steps=3']", f"out={tmp_path}",
        "heldout=['windows=30','imagine=2','horizon=2','flow_steps=[2,4]']",
    ]  # fmt: skip
    assert cli.main(bench) == 0
    found = result(tmp_path)
    assert list(found["arms"]) == ["flow", "mid+objective.gamma=0.5"]
    for arm in found["arms"].values():
        assert arm[-1]["updates"] == 2
        assert np.isfinite(arm[-1]["imagined can [mm]"]).all()
        assert np.isfinite(arm[-1]["linear read-out of the can [mm]"]).all()
        assert arm[-1]["loss at flow time"]["0.5"]["plan"] > 0
    assert found["differences"]["mid+objective.gamma=0.5"]["difference"] == [0, 0, 0]
    read_report(tmp_path / "report.html")
    kept = tmp_path / "mid_objective.gamma_0.5" / "seed-0" / "train" / "checkpoints" / "000002"
    assert load(kept).about["training"]["objective"]["gamma"] == 0.5
    capsys.readouterr()
    assert cli.main([*bench, "steps=4"]) == 2
    assert "steps: 2, now 4" in capsys.readouterr().err
