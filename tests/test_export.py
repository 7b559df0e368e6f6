"""The exported policy: the same plans as the original's, and what is said where it can't be."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from test_flow_policy import observations
from tiny import tiny_model, tiny_spec

import policies
from policies.flow_policy import FlowPolicy
from worldmodel import checkpoint, cli
from worldmodel.adapt import AdaptConfig
from worldmodel.env_config import env_of, make_env
from worldmodel.errors import RunError, UserError
from worldmodel.export import (
    NOISE,
    Planner,
    check,
    feed,
    needs_extra,
    open_onnx,
    random_observations,
    write_onnx,
)
from worldmodel.export_jobs import real_observations
from worldmodel.shipped import find_checkpoint
from worldmodel.spec import spec_of_env

# torch's exporter takes half a minute, on a busy core minutes
pytestmark = pytest.mark.timeout(900)


def planned(policy: FlowPolicy, obs: dict[str, np.ndarray], seeds: np.ndarray) -> np.ndarray:
    return policy.plan(obs, np.arange(len(seeds)), seeds, 0 * seeds)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[FlowPolicy, Path]:
    """A policy with random weights and its file."""
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module)
    policy = FlowPolicy(tiny_model(mounted=True).eval(), flow_steps=2)
    path = tmp_path_factory.mktemp("onnx") / "policy.onnx"
    write_onnx(policy.model, policy.flow_steps, path)
    return policy, path


@pytest.mark.parametrize("flow_steps", [1, 2, 5])
def test_the_flat_graph_plans_as_the_policy_does(flow_steps: int) -> None:
    policy = FlowPolicy(tiny_model().eval(), flow_steps=flow_steps)
    obs, seeds = observations(3), np.array([5, 6, 7])
    images = [torch.from_numpy(obs[name]) for name in ("front", "wrist")]
    noise = torch.from_numpy(policy.noise(seeds, 0 * seeds)).float()
    found = Planner(policy.model, flow_steps)(images, torch.from_numpy(obs["proprio"]), noise)
    np.testing.assert_allclose(found.detach(), planned(policy, obs, seeds), atol=1e-6)


def test_the_file_plans_as_the_policy_does_at_any_batch_size(exported) -> None:
    policy, path = exported
    session = open_onnx(path)
    for n in (1, 2, 7):
        obs, seeds = observations(n, seed=n), np.arange(n)
        (found,) = session.run(None, feed(policy, obs, seeds, 0 * seeds))
        np.testing.assert_allclose(found, planned(policy, obs, seeds), atol=1e-5)
    obs = observations(4)
    assert set(check(policy, path, obs, random_observations(tiny_spec(), 4))) == {
        "max_abs_error_random", "max_abs_error_real",
    }  # fmt: skip


def test_every_input_matters(exported) -> None:
    policy, path = exported
    session, zero = open_onnx(path), np.zeros(1, int)
    inputs = feed(policy, observations(1), zero, zero)
    other = feed(policy, observations(1, seed=1), zero + 1, zero)
    (plan,) = session.run(None, inputs)
    for name in ("front", "wrist", "proprio", "noise"):
        (changed,) = session.run(None, {**inputs, name: other[name]})
        assert np.abs(changed - plan).max() > 1e-4, name


def test_the_file_says_how_it_is_used(exported) -> None:
    policy, path = exported
    session = open_onnx(path)
    about = json.loads(session.get_modelmeta().custom_metadata_map["worldmodel"])
    assert about["flow_steps"] == 2
    assert about["spec"] == json.loads(json.dumps(tiny_spec(mounted=True).to_json()))
    H, A = policy.model.config.chunk, policy.spec.A
    known = {"numpy": np, "seed": 4, "draw": 0, "H": H, "A": A}
    noise = eval(about["noise"].partition(";")[0], known)
    assert about["noise"] == NOISE
    np.testing.assert_array_equal(noise, policy.noise(np.array([4]), np.array([0]))[0])
    shapes = {i.name: (i.type, i.shape[1:]) for i in session.get_inputs()}
    assert shapes == {
        "front": ("tensor(uint8)", [16, 16, 3]), "wrist": ("tensor(uint8)", [16, 16, 3]),
        "proprio": ("tensor(float)", [policy.spec.P]), "noise": ("tensor(float)", [H, A]),
    }  # fmt: skip
    assert not any(isinstance(i.shape[0], int) for i in session.get_inputs())


def test_a_file_of_another_policy_is_refused(exported) -> None:
    policy, path = exported
    for other in (
        FlowPolicy(tiny_model(seed=1, mounted=True).eval(), flow_steps=2),
        FlowPolicy(policy.model, flow_steps=4),
    ):
        with pytest.raises(RunError, match=r"not the policy: .*expected at most 0\.0001"):
            check(other, path, observations(2), observations(2, seed=1))


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worldmodel.export.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"needs onnx: python -m pip install 'worldmodel\[export\]'"
    ):
        needs_extra()


def test_a_failed_export_leaves_no_file(exported, tmp_path: Path, monkeypatch, capsys) -> None:
    """An exporter that writes something else: the command ends with 1 and there is no policy."""
    checkpoint.save(tmp_path / "mine", tiny_model(seed=2, mounted=True), {})
    _, path = exported

    def wrong(model, flow_steps, place: Path) -> None:
        place.write_bytes(path.read_bytes())

    def real(policy, spec, place, n):
        return observations(n), "here"

    monkeypatch.setattr("worldmodel.export.write_onnx", wrong)
    monkeypatch.setattr("worldmodel.export_jobs.real_observations", real)
    words = ["export", f"checkpoint={tmp_path / 'mine'}", f"out={tmp_path / 'out'}"]
    assert cli.main([*words, "flow_steps=2", "observations=2"]) == 1
    assert "the exported policy is not the policy" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.onnx"))


@pytest.mark.slow
def test_the_shipped_checkpoint_is_exported_by_the_command(exported, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli.main(["export", "flow_steps=1", "observations=6", "plans=2", f"out={out}"]) == 0
    result = json.loads((out / "result.json").read_text())
    assert result["bytes"] == (out / "policy.onnx").stat().st_size
    assert result["real_observations"] == result["random_observations"] == 6
    assert result["real_from"].endswith("pick_can_tiny")
    assert 0 < max(result["max_abs_error_random"], result["max_abs_error_real"]) <= 1e-4
    assert min(result["plan_ms_torch"], result["plan_ms_onnxruntime"]) > 0
    assert (out / "report.html").exists()


def test_observations_come_from_the_simulator_where_the_checkpoint_has_none(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(find_checkpoint("pick_can_tiny") / name, tmp_path)
    policy = policies.load(tmp_path, flow_steps=1)
    obs, whence = real_observations(policy, policy.spec, tmp_path, 3)
    assert whence == "worldmodel/PickCan-v0"
    policy.check(obs)
    assert len(obs["proprio"]) == 3
    assert not np.array_equal(obs["front"][0], obs["front"][2])


def test_the_env_of_a_spec_is_adapted_as_it_was() -> None:
    options = {"adapt": {"goal": "front", "image_size": [32]}, "pose": "lying"}
    spec = dataclasses.replace(tiny_spec(), env="worldmodel/PickCan-v0", env_options=options)
    config = env_of(spec)
    assert config.adapt == AdaptConfig(goal="front", image_size=(32,))
    assert config.options == {"pose": "lying"}
    env = make_env(config)
    assert env.observation_space["goal"].shape == (32, 32, 3)  # pyright: ignore
    assert spec_of_env(env).env_options == options
