"""worldmodel bench growth: one row for each batch, window and kind of work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import tiny_model

from worldmodel import cli
from worldmodel.bench_growth import GrowthConfig
from worldmodel.flops import imagination_flops, plan_flops

SMALL = [
    "env.image_size=32", "model.trunk.width=32", "model.trunk.depth=2", "model.trunk.heads=2",
    "batches=[1,3]", "windows=[1,6]", "timed=2", "segment=2", "threads=1",
]  # fmt: skip


def test_growth_is_measured_for_every_batch_and_window(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", "growth", *SMALL, f"out={tmp_path}"]) == 0
    found = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    rows = [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]
    assert [(row["what"], row["batch"], row["W"]) for row in rows] == [
        *(("update", B, "") for B in (1, 3)),
        *(("plan", B, "") for B in (1, 3)),
        *(("imagined step", B, W) for B in (1, 3) for W in (1, 6)),  # beyond the size's own W
    ]
    for row in rows:
        count = row["batch"] * (2 if row["what"] == "update" else 1)
        assert row["per second"] == pytest.approx(1000 * count / row["ms"])
        assert 0 < row["utilisation"] < 1
        assert row["MiB"] > 50
    assert "imagined step, W = 6" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "| update | 3 |" in capsys.readouterr().out


def test_flops_grow_with_steps_and_window() -> None:
    model = tiny_model(window=3)
    once, twice, four = (plan_flops(model, K) for K in (1, 2, 4))
    assert twice - once == (four - twice) / 2 > 0
    assert imagination_flops(model, 2, 3) > imagination_flops(model, 2, 1)


def test_bad_words_are_refused() -> None:
    with pytest.raises(ValueError, match=r"windows.*got \[1\], \[0\]"):
        GrowthConfig(batches=(1,), windows=(0,))
