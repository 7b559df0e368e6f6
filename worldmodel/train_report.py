"""What a training run looked like: curves, and a few frames and plans that its model denoised."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from worldmodel.log import duration, read_metrics
from worldmodel.model import WorldModel
from worldmodel.objective import Segment
from worldmodel.report import Report
from worldmodel.rollout import Imagination, generators_from
from worldmodel.video import upscale
from worldmodel.windows import Windows

CURVES = {
    "Plans": ("loss_plan", "val_loss_plan"),
    "Next frames": ("loss_next", "val_loss_next"),
    "Other leaves": ("loss_change", "loss_outcome", "loss_inverse"),
    "Student and teacher: cosine": ("cosine_next", "cosine_plan"),
    "Error of sampled plans [env units]": ("val_plan_mae",),
    "Gradient norm": ("grad_norm",),
    "Tokens per second": ("tokens_per_s",),
    "Model FLOPs over the matmul rate": ("utilisation",),
}


def write_report(folder: Path, model: WorldModel, held_out: Windows, title: str) -> None:
    """Write ``folder/report.html`` from ``metrics.jsonl`` and the trained ``model``."""
    rows = read_metrics(folder)
    last = rows[-1]
    report = Report(title, f"{int(last['step'])} updates in {duration(3600 * last['hours'])}")
    wanted = {"plan loss, held out": "val_loss_plan", "frame loss, held out": "val_loss_next",
              "error of plans": "val_plan_mae", "of the matmul rate": "utilisation"}  # fmt: skip
    newest = {k: v for row in rows for k, v in row.items()}
    report.figures({name: f"{newest[k]:.3f}" for name, k in wanted.items() if k in newest})
    for heading, names in CURVES.items():
        lines = {}
        for name in names:
            points = [(row["step"], row[name]) for row in rows if name in row]
            if points:
                x, y = zip(*points, strict=True)
                lines[name] = (list(x), list(y))
        if lines:
            report.heading(heading).chart(lines, x_label="update", log_y="loss" in names[0])
    report.heading("Held-out frames: before the action, what came, what the model denoised")
    for picture, caption in denoised(model, held_out):
        report.image(picture, caption)
    report.write(folder / "report.html")


def denoised(model: WorldModel, held_out: Windows, count: int = 6) -> list[tuple[np.ndarray, str]]:
    """Pictures of o_n, the real o_{n+1} and the denoised one, all cameras below one another."""
    picks = np.linspace(0, len(held_out) - 1, count).astype(np.int64)
    device = model.grid.device
    batch = Segment.of(held_out.get(picks), device)
    world = Imagination(
        model, batch.images[:, 0], batch.proprio[:, 0], generators=generators_from(0, count)
    )
    world.step(batch.action[:, 0] if batch.known[:, 0].all() else None)
    imagined = world.show()
    pictures = []
    for i in range(count):
        columns = [batch.images[i, 0], batch.images[i, 1], imagined[i]]
        grid = np.concatenate(
            [np.concatenate(list(c.cpu().numpy()), axis=0) for c in columns], axis=1
        )
        pictures.append((upscale(grid, 3), f"window {int(picks[i])}: now, next, denoised"))
    return pictures
