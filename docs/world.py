"""A world trained on what goes wrong in it: simulators feed the training while it runs.

    python docs/world.py --minutes 8 --workers 14 --out runs/world       # one GPU, 16 cores

Three things happen side by side. *Simulators* (processes) collect demonstrations, explorations and
mistakes, as `worldmodel collect` does; then they act out what policies did inside the model, and
what they do outside it. *Policies* of all qualities come from small trainings of plans alone (or
from ``--policies``; both in world_feed.py). The *training* goes on from ``--init`` on whatever is
there by then, and every half minute gives its weights to those policies, to act in. So the model
sees what really follows from actions that were chosen inside it: an agent goes where the model is
kind, and nobody else's data show what is there.

No videos are written: episodes go through ``--feed``, in memory where there is /dev/shm. The result
is ``OUT/checkpoint``, in bf16. Nothing is resumed: it is a matter of minutes on a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from world_feed import joined, load, supply

from worldmodel import checkpoint
from worldmodel.batches import next_batch
from worldmodel.dataset import STREAMS, Dataset
from worldmodel.device import autocast, pick_device
from worldmodel.model import WorldModel
from worldmodel.objective import ObjectiveConfig
from worldmodel.optim import OptimConfig
from worldmodel.rehearsal import REFRESH
from worldmodel.settle import settled
from worldmodel.shipped import find_checkpoint
from worldmodel.spec import check_compatible
from worldmodel.starts import Starts, save_starts
from worldmodel.train import TrainConfig, train_step
from worldmodel.train_state import TrainState
from worldmodel.widen import in_unit
from worldmodel.windows import Windows


class OnDevice:
    """Frames on the device, indexed by numpy as the other streams are."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._count = device, 0
        self._room = torch.zeros(0, device=device)

    def add(self, frames: np.ndarray) -> None:
        count = self._count + len(frames)
        if count > len(self._room):
            room = torch.zeros(2 * count, *frames.shape[1:], dtype=torch.uint8, device=self._device)
            if self._count:
                room[: self._count] = self._room[: self._count]
            self._room = room
        self._room[self._count : count] = torch.from_numpy(np.array(frames)).to(self._device)
        self._count = count

    def __getitem__(self, index: np.ndarray) -> Tensor:
        return self._room[torch.from_numpy(np.asarray(index)).to(self._device)]


class Fed:
    """All that has come through the feed."""

    def __init__(self, feed: Path, device: torch.device) -> None:
        self.images, self.chunks = OnDevice(device), []
        self._feed = feed

    def look(self) -> bool:
        """Take what is new; whether there was anything."""
        new = sorted(self._feed.glob("*.npz"))
        if not new:
            return False
        for file in new:
            self.add(load(file))
            file.unlink()
        return True

    def add(self, chunk: dict[str, np.ndarray]) -> None:
        self.images.add(chunk["images"])
        self.chunks.append({**chunk, "images": chunk["length"][:0]})

    def add_dataset(self, dataset: Dataset) -> None:
        """All episodes of a dataset."""
        told = {
            "length": [e.length for e in dataset.episodes],
            "shown": [e.demonstration for e in dataset.episodes],
            "success": [e.success for e in dataset.episodes],
            "known": [e.known for e in dataset.episodes],
        }
        streams = {name: dataset.stream(name) for name in STREAMS}
        self.add({**streams, **{name: np.array(values) for name, values in told.items()}})

    def windows(self, length: int, chunk: int) -> Windows:
        arrays, infos = joined(self.chunks)
        return Windows({**arrays, "images": self.images}, infos, length, chunk)  # pyright: ignore

    def starts(self, count: int) -> Starts:
        """First observations, for imagining without a dataset."""
        arrays, infos = joined(self.chunks)
        first = np.array([e.start for e in infos])[
            np.linspace(0, len(infos) - 1, min(count, len(infos))).astype(int)
        ]
        return Starts(self.images[first].cpu().numpy(), arrays["proprio"][first])

    def __str__(self) -> str:
        length, success = (
            np.concatenate([c[k] for c in self.chunks]) for k in ("length", "success")
        )
        return f"{len(length)} episodes, {length.sum()} steps, {success.mean():.2f} succeeded"


def learn(
    args: argparse.Namespace, out: Path, feed: Path, initial: WorldModel, supplier: BaseProcess
) -> None:
    """Train for ``args.minutes`` on what comes, and write the EMA model."""
    device = pick_device(args.device)
    fed, context = Fed(feed, device), autocast(device, "auto")
    frames = ObjectiveConfig(name="flow", next_ratio=args.next_ratio, plans=1)
    optim = OptimConfig(lr=args.lr, warmup=50, ema=0.995)
    config = TrainConfig(
        batch=args.batch, demonstrations=0.4, rehearse=0.6, rehearse_after=0.0,
        rehearse_steps=args.rehearse_steps, robot_samples=max(32, args.batch // 4),
    )  # fmt: skip
    state = TrainState(initial.spec, initial.config, optim, 0, "flow")
    state.model.load_state_dict(initial.state_dict())
    state.teacher.load_state_dict(initial.state_dict())
    for mine in (state.model, state.teacher):
        mine.trust()
    state.to(device)
    if device.type == "cpu":
        torch.set_num_threads(args.threads)
    if args.compile:
        state.compile()
    checkpoint.save(out / "latest", state.teacher, {})
    while not (out / "begin").exists():
        alive(supplier)
        time.sleep(0.5)
    for folder in args.data:
        dataset = Dataset(folder)
        check_compatible(dataset.spec, initial.spec)
        fed.add_dataset(dataset)
    fed.look()
    windows, rows = fed.windows(config.segment, initial.config.chunk), []
    began = saved = said = time.monotonic()
    while (done := (time.monotonic() - began) / (60 * args.minutes)) < 1 and supplier.is_alive():
        steps = max(state.step + 1, round(state.step / max(done, 1e-3)))  # at this pace
        if state.step % REFRESH == 0 and fed.look():  # what was dreamt is of the windows before
            windows = fed.windows(config.segment, initial.config.chunk)
        batch, dreamt, robot = next_batch(state, windows, config, context)
        rows.append(train_step(state, batch, frames, steps, context, dreamt, robot))
        now = time.monotonic()
        if now - said > 10:
            mean = {k: float(np.mean([r[k] for r in rows])) for k in rows[0]}
            memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
            line = {
                "memory": memory,
                "minutes": (now - began) / 60,
                "step": state.step,
                "data": str(fed),
                **mean,
            }
            with (out / "metrics.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            shown = " ".join(
                f"{k} {mean[k]:.4g}" for k in ("loss_next", "loss_plan", "loss_outcome")
            )
            print(f"{line['minutes']:.1f} min, {state.step} updates, {len(rows) / (now - said):.2f}"
                  f"/s, {fed}: {shown}", flush=True)  # fmt: skip
            rows, said = [], now
        if now - saved > 30:
            checkpoint.save(out / "latest", state.teacher, {})
            saved = time.monotonic()
    trained = settled(state.teacher, fed.windows(24, initial.config.chunk))
    about = {
        "objective": "flow", "init": args.init, "docs/world.py": {**vars(args), "out": str(out)},
        "steps": state.step, "data": str(fed),
    }  # fmt: skip
    checkpoint.save(out / "exact", trained.cpu(), {k: str(v) for k, v in about.items()})
    checkpoint.compact(out / "exact", out / "checkpoint")
    save_starts(out / "checkpoint", fed.starts(64))
    alive(supplier)  # where it is not, what was learned until then is kept


def alive(supplier: BaseProcess) -> None:
    if supplier.exitcode is not None:
        raise SystemExit(f"who feeds the training ended with {supplier.exitcode}; see above")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--init", default="pick_can_world", help="the checkpoint to go on from")
    parser.add_argument("--minutes", type=float, default=8.0, help="of training")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--episodes", type=int, default=3000, help="scripted ones, at the start")
    parser.add_argument("--data", nargs="*", default=[], help="datasets to learn from besides")
    parser.add_argument(
        "--policies",
        default="",
        help="a training with keep_every=…, whose checkpoints act "
        "('': one of its own, from --taught demonstrations)",
    )
    parser.add_argument(
        "--taught", type=int, nargs="+", default=[150, 350],
        help="demonstrations for the policies: of the first training, of the next, …",
    )  # fmt: skip
    parser.add_argument("--policy-updates", type=int, default=1600, help="of each such training")
    parser.add_argument("--batch", type=int, default=384)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--rehearse-steps", type=int, default=40)
    parser.add_argument("--next-ratio", type=float, default=1.0, help="of frames denoised")
    parser.add_argument("--together", type=int, default=192, help="worlds acted in at once")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=1, help="of the training, on a CPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--feed", default="", help="where episodes go through ('': in memory)")
    parser.add_argument("--out", type=Path, default=Path("runs/world"))
    args = parser.parse_args()
    out: Path = args.out
    if out.exists():
        raise SystemExit(f"{out} is there already; choose another --out")
    if args.policies and not list(Path(args.policies).glob("**/checkpoints/*/config.json")):
        raise SystemExit(f"--policies: there are no checkpoints/ in {args.policies}")
    if args.feed and Path(args.feed).exists() and any(Path(args.feed).iterdir()):
        raise SystemExit(f"--feed: {args.feed} is not empty")
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    initial = checkpoint.load(find_checkpoint(args.init)).model
    initial = in_unit(initial, 0.05)
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(dir=memory, ignore_cleanup_errors=True)
        feed = Path(args.feed or stack.enter_context(temporary))
        feed.mkdir(exist_ok=True)
        (out / "taught").mkdir(parents=True)
        supplier = context.Process(target=supply, args=(args, out, feed, initial.spec))
        supplier.start()
        try:
            learn(args, out, feed, initial, supplier)
        finally:
            (out / "stop").touch()
            supplier.join(20)
            supplier.kill()
    shutil.rmtree(out / "taught")
    print(f"checkpoint: {out / 'checkpoint'}")


if __name__ == "__main__":
    main()
