"""Several processes train as one does; one that dies ends the others."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import together
import torch

from worldmodel import checkpoint
from worldmodel.batches import own_seed
from worldmodel.distributed import Ranks
from worldmodel.errors import UserError
from worldmodel.log import read_metrics

HERE = Path(__file__).parent


def start(command: list[str], **about: str) -> subprocess.Popen[str]:
    """A process of tests/together.py, all of whose words can be read."""
    path = os.pathsep.join([str(HERE.parent), str(HERE)])
    return subprocess.Popen(
        command, env={**os.environ, **about, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def torchrun(out: Path, *words: str) -> subprocess.Popen[str]:
    """Two processes of tests/together.py."""
    return start(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
            str(HERE / "together.py"), str(out), *words,
        ]
    )  # fmt: skip


def finished(out: Path, *words: str) -> None:
    process = torchrun(out, *words)
    text, _ = process.communicate(timeout=400)
    assert process.returncode == 0, text


def assert_same(one: Path, other: Path) -> None:
    """The same losses at every update to 1e-4, and the same weights."""
    pairs = list(zip(read_metrics(one), read_metrics(other), strict=True))
    assert len(pairs) == 7
    for a, b in pairs:
        assert a.keys() == b.keys()
        names = [k for k in a if k.startswith(("loss", "cosine", "val_", "grad", "feature", "lr"))]
        assert len(names) > 10
        for name in names:
            assert b[name] == pytest.approx(a[name], rel=1e-4, abs=1e-7), (a["step"], name)
    a, b = (checkpoint.read_tensors(x / "state.safetensors")[0] for x in (one, other))
    assert a.keys() == b.keys()
    for name in a:
        if name.startswith("dreams.images"):
            assert (a[name].int() - b[name].int()).abs().max() <= 1  # rounded to whole numbers
        else:
            torch.testing.assert_close(b[name], a[name], rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of it."""
    folder = tmp_path_factory.mktemp("one")
    together.run(folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_train_as_one(tmp_path: Path, one: Path) -> None:
    finished(tmp_path, "ddp:ddp", "fsdp:fsdp")
    assert_same(one, tmp_path / "ddp")
    assert_same(one, tmp_path / "fsdp")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_go_on_as_one_and_as_two_again(tmp_path: Path, one: Path) -> None:
    finished(tmp_path, "ddp:mixed:2", "fsdp:shards:3")
    for name in ("mixed", "shards"):
        assert checkpoint.load(tmp_path / name / "checkpoint").about["training"]["step"] in (2, 3)
        together.run(tmp_path / name, resume=True, stop=2)
    finished(tmp_path, "fsdp:mixed", "ddp:shards")
    assert_same(one, tmp_path / "mixed")
    assert_same(one, tmp_path / "shards")


def wait_for_updates(process: subprocess.Popen[str], out: Path) -> None:
    """Until some updates are done."""
    deadline = time.monotonic() + 120
    while len(read_metrics(out / "long")) < 3:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
def test_one_that_dies_ends_the_other_with_an_error(tmp_path: Path) -> None:
    """Without torchrun between them, which stops the other before it may have said anything."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    about = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, str(HERE / "together.py"), str(tmp_path), "ddp:long"]
    both = [start(command, **about, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in (0, 1)]
    try:
        wait_for_updates(both[0], tmp_path)
        both[1].kill()
        text, _ = both[0].communicate(timeout=90)
    finally:
        for process in both:
            process.kill()
            process.communicate()
    assert both[0].returncode != 0
    assert "process 0 of 2 can't go on" in text
    header = checkpoint.read_tensors(tmp_path / "long/state.safetensors")[1]
    assert header["step"] >= 3


@pytest.mark.slow
def test_a_signal_stops_all_at_one_update_and_saves(tmp_path: Path) -> None:
    process = torchrun(tmp_path, "fsdp:long")
    try:
        wait_for_updates(process, tmp_path)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode != 0
    header = checkpoint.read_tensors(tmp_path / "long/state.safetensors")[1]
    assert header["step"] >= 3
    assert header["step"] == read_metrics(tmp_path / "long")[-1]["step"]


def test_own_noise_is_another_in_every_process_and_every_update(tmp_path: Path) -> None:
    assert Ranks(1, 2).draws(3) == (6, slice(1, None, 2))
    assert Ranks(1, 2, own_noise=True).draws(3) == (3, slice(None))
    seeds = {own_seed(0, step, rank) for step in range(20) for rank in range(20)}
    assert len(seeds) == 400
    together.run(tmp_path / "whole", own_noise=True, steps=3)
    together.run(tmp_path / "cut", own_noise=True, steps=3, stop=2)
    together.run(tmp_path / "cut", own_noise=True, steps=3, resume=True)
    whole, cut = (
        checkpoint.read_tensors(tmp_path / name / "state.safetensors")[0]
        for name in ("whole", "cut")
    )
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_every_row_belongs_to_one_process() -> None:
    rows = np.arange(12)
    parts = [rows[Ranks(rank, 3).rows()] for rank in range(3)]
    assert sorted(np.concatenate(parts)) == rows.tolist()
    for start in range(5):  # the same rows, when the first few come from elsewhere
        for rank in range(3):
            expected = [row - start for row in parts[rank] if row >= start]
            assert rows[: 12 - start][Ranks(rank, 3).rows(start)].tolist() == expected


def test_what_can_not_be_shared_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"batch: got 4 for 3 processes.*such as 3 or 6"):
        together.run(tmp_path, Ranks(0, 3))
    with pytest.raises(UserError, match=r"robot_samples: got 6 for 4 processes.*such as 4 or 8"):
        together.run(tmp_path, Ranks(0, 4))
