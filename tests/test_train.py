"""Training on windows of a made-up world: resume is exact, errors stop it in time."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import SIDE, A, C, H, P, tiny_model, tiny_spec

from worldmodel import checkpoint
from worldmodel.errors import RunError, UserError
from worldmodel.log import read_metrics
from worldmodel.model import ModelConfig
from worldmodel.objective import ObjectiveConfig, Segment
from worldmodel.optim import OptimConfig
from worldmodel.rehearsal import Stage, dream_along, rehearse
from worldmodel.train import TrainConfig, train
from worldmodel.transformer import TransformerConfig
from worldmodel.windows import ALL

MODEL = ModelConfig("test", TransformerConfig(32, 2, 2, 2), patch=8, window=2, chunk=H)


class FakeWindows:
    """A dot that moves by the action: 40 windows of T steps."""

    def __init__(self, T: int = 2, poison: bool = False) -> None:
        self.T, self.poison = T, poison

    def __len__(self) -> int:
        return 40

    def sample(self, batch: int, rng: np.random.Generator, demonstrations: float, part=ALL):
        return self.get(rng.integers(0, len(self), batch)[part])

    def stretches(self, count: int, steps: int, rng: np.random.Generator, demonstrations: float):
        return rng.integers(0, len(self) - 3, count), np.full(count, 3)

    def frames(self, count: int, rng: np.random.Generator, part=ALL):
        batch = self.get(rng.integers(0, len(self), count)[part])
        return batch.images[:, 0], batch.proprio[:, 0]

    def motions(self, count: int, steps: int, rng: np.random.Generator, part=ALL):
        batch = self.get(rng.integers(0, len(self), count)[part], length=steps)
        return batch.proprio, batch.action

    def get(self, indices: np.ndarray, length: int | None = None):
        B, T = len(indices), length or self.T
        rng = np.random.default_rng(indices.tolist())
        images = np.zeros((B, T + 1, C, SIDE, SIDE, 3), np.uint8)
        images[..., 4:8, 4:8, 0] = rng.integers(0, 255, (B, T + 1, C, 1, 1))
        proprio = rng.normal(size=(B, T + 1, P)).astype(np.float32)
        plan = rng.uniform(-1, 1, (B, T, H, A)).astype(np.float32)
        if self.poison:
            plan[:] = np.nan
        return SimpleNamespace(
            images=images, first=images[:, 0], first_proprio=proprio[:, 0], proprio=proprio,
            exists=np.ones((B, T), bool),
            action=plan[:, :, 0], known=np.ones((B, T), bool), plan=plan,
            plan_mask=np.ones((B, T, H), bool), outcome=np.zeros((B, T, 4), np.float32),
        )  # fmt: skip


def run(
    out, steps: int = 6, stop: int | None = None, resume=False, poison=False, initial=None,
    rehearse: float = 0.0, by: int = signal.SIGINT,
):  # fmt: skip
    config = TrainConfig(
        steps=steps, batch=4, segment=2, log_every=2, validate_every=4, validate_windows=8,
        threads=1, precision="fp32", device="cpu", rehearse=rehearse, rehearse_after=0.3,
    )  # fmt: skip
    windows = FakeWindows(poison=poison)
    if stop is not None:
        sample, left = windows.sample, [stop]

        def interrupted(*args):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), by)
            return sample(*args)

        windows.sample = interrupted
    return train(
        windows, FakeWindows(), tiny_spec(), MODEL, ObjectiveConfig("self_flow"),
        OptimConfig(warmup=2), config, out, resume, initial=initial,
    )  # fmt: skip


def weights(out) -> dict[str, torch.Tensor]:
    return checkpoint.read_tensors(out / "state.safetensors")[0]


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path, by: int) -> None:
    run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop=3, by=by)
    assert checkpoint.read_tensors(tmp_path / "cut/state.safetensors")[1]["step"] == 3
    run(tmp_path / "cut", resume=True)
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    assert [k for k in whole if not torch.equal(whole[k], cut[k])] == []
    assert any("exp_avg" in k for k in whole)


def test_training_changes_weights_logs_and_leaves_a_checkpoint_that_loads(tmp_path) -> None:
    result = run(tmp_path)
    assert result.steps == 6
    rows = read_metrics(tmp_path)
    assert [row["step"] for row in rows] == [2, 4, 6]
    for key in ("loss_plan", "loss_next", "cosine_next", "tokens_per_s", "utilisation", "lr"):
        assert np.isfinite(rows[0][key]), key
    assert "val_plan_mae" in rows[1]
    loaded = checkpoint.load(tmp_path / "checkpoint")
    assert loaded.model.spec == tiny_spec()
    assert loaded.about["training"]["step"] == 6
    teacher = checkpoint.unpack("teacher", weights(tmp_path))
    assert all(torch.equal(v, teacher[k]) for k, v in loaded.model.state_dict().items())
    student = checkpoint.unpack("model", weights(tmp_path))
    assert any(not torch.equal(v, teacher[k]) for k, v in student.items())


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path) -> None:
    with pytest.raises(RunError, match=r"update 0: not finite.*loss_plan"):
        run(tmp_path, poison=True)
    tensors, header = checkpoint.read_tensors(tmp_path / "state.safetensors")
    assert header["step"] == 0
    assert all(torch.isfinite(v).all() for v in tensors.values() if v.is_floating_point())


def test_it_starts_from_given_weights(tmp_path) -> None:
    run(tmp_path / "first")
    given = checkpoint.load(tmp_path / "first/checkpoint").model
    never = given.doubt.clone()
    given.doubt[0] = 1.0
    with pytest.raises(RunError):  # stopped before the first update
        run(tmp_path / "second", poison=True, initial=given)
    for name in ("model", "teacher"):
        start = checkpoint.unpack(name, weights(tmp_path / "second"))
        assert torch.equal(start.pop("doubt"), never)  # it was fitted on another trunk
        assert all(torch.equal(given.state_dict()[k], v) for k, v in start.items())


def test_a_checkpoint_of_before_there_was_doubt_has_none(tmp_path) -> None:
    run(tmp_path)
    file = tmp_path / "checkpoint" / checkpoint.WEIGHTS
    tensors, header = checkpoint.read_tensors(file)
    never = tensors.pop("doubt")
    checkpoint.write_tensors(file, tensors, header)
    assert torch.equal(checkpoint.load(tmp_path / "checkpoint").model.doubt, never)
    assert never[-1].sigmoid() < 1e-6


def test_a_folder_in_use_and_a_changed_configuration_are_refused(tmp_path) -> None:
    run(tmp_path)
    with pytest.raises(UserError, match="resume=true"):
        run(tmp_path)
    with pytest.raises(UserError, match=r"train: was .*'steps': 6.* is .*'steps': 8"):
        run(tmp_path, steps=8, resume=True)


def test_broken_checkpoints_are_told_apart(tmp_path) -> None:
    run(tmp_path)
    file = tmp_path / "checkpoint/model.safetensors"
    whole = file.read_bytes()
    for cut in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:cut])
        with pytest.raises(UserError, match="truncated or corrupt"):
            checkpoint.load(tmp_path / "checkpoint")
    tensors = {"a": torch.zeros(1)}
    checkpoint.write_tensors(file, tensors, {"format": 99})
    with pytest.raises(UserError, match=f"format 99, this version reads {checkpoint.FORMAT}"):
        checkpoint.load(tmp_path / "checkpoint")
    from safetensors.torch import save_file

    save_file(tensors, file)
    with pytest.raises(UserError, match="without a worldmodel header"):
        checkpoint.load(tmp_path / "checkpoint")
    with pytest.raises(UserError, match="there is no"):
        checkpoint.load(tmp_path / "nowhere")


def test_a_full_disk_keeps_the_earlier_checkpoint(tmp_path, monkeypatch) -> None:
    file = tmp_path / "x.safetensors"
    checkpoint.write_tensors(file, {"a": torch.ones(3)}, {"format": checkpoint.FORMAT})

    def full(tensors, path, header):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(RunError, match="No space left"):
        checkpoint.write_tensors(file, {"a": torch.zeros(3)}, {"format": checkpoint.FORMAT})
    assert torch.equal(checkpoint.read_tensors(file)[0]["a"], torch.ones(3))
    assert list(tmp_path.iterdir()) == [file]


def test_dreams_begin_with_the_real_picture_and_are_cut_into_segments() -> None:
    model, windows, rng = tiny_model().eval(), FakeWindows(), np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    batch = Segment.of(windows.get(np.arange(4), length=5), torch.device("cpu"))
    dreamt = Stage(model, 4).dream(batch, 2, generator)
    assert dreamt.shape == batch.images.shape
    assert torch.equal(dreamt[:, 0], batch.images[:, 0])
    assert (dreamt[:, 1:] != batch.images[:, 1:]).any()
    dreams = dream_along(Stage(model, 6), windows, 6, 3, 0.5, rng, generator)
    segments, seen = rehearse(dreams, windows, 50, rng)
    assert seen.shape == segments.images[:, :-1].shape
    for first, pictures in zip(segments.first, seen, strict=True):
        row = [torch.equal(first, stretch[0]) for stretch in dreams.images].index(True)
        offsets = [
            torch.equal(pictures, dreams.images[row, n : n + len(pictures)]) for n in range(3)
        ]
        assert sum(offsets) == 1


def test_a_stage_remembers_nothing_of_the_dream_before() -> None:
    model, windows = tiny_model().eval(), FakeWindows()
    first, second = (
        Segment.of(windows.get(np.arange(n, n + 4), length=7), torch.device("cpu")) for n in (0, 9)
    )
    stage = Stage(model, 4)
    stage.dream(first, 1, torch.Generator().manual_seed(0))
    again = stage.dream(second, 2, torch.Generator().manual_seed(1))
    assert torch.equal(again, Stage(model, 4).dream(second, 2, torch.Generator().manual_seed(1)))


def test_rehearsal_resumes_bit_for_bit(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop=3, rehearse=0.5)
    run(tmp_path / "cut", resume=True, rehearse=0.5)
    run(tmp_path / "whole", rehearse=0.5)
    run(tmp_path / "plain")
    cut, whole, plain = (weights(tmp_path / name) for name in ("cut", "whole", "plain"))
    assert all(torch.equal(cut[k], whole[k]) for k in whole)
    assert not all(torch.equal(plain[k], whole[k]) for k in plain)
