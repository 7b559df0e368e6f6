"""The state probe: reads positions and flags from pictures, as a judge of imagined frames.

A small network of convolutions per camera, trained on simulator frames only, sharp and blurred, and
on nothing that a world model made; it sees no proprioception. Its own error on held-out real frames
goes with every use of it. Places are read by spatial soft-argmax [Levine et al. 2016, arXiv
1504.00702]; a flat read-out alone was wrong by 13 to 18 mm (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.checkpoint import read_tensors, write_tensors
from worldmodel.device import autocast
from worldmodel.errors import UserError
from worldmodel.layers import begin_by_he
from worldmodel.metrics import median_interval
from worldmodel.normalize import images_to_float
from worldmodel.recording import Recording, check_truth
from worldmodel.spec import DataSpec

FORMAT = 2  # of the file
FILE = "probe.safetensors"
BATCH = 64
MAPS = 64  # features whose places are read
BLUR = 5  # passes of a small blur that it has to bear


@dataclass(frozen=True)
class ProbeConfig:
    episodes: int = field(
        default=1600, metadata={"help": "episodes acted out, half of them explorations"}
    )
    seed: int = field(default=2_000_000, metadata={"help": "episode i runs with seed + i"})
    updates: int = field(default=15_000, metadata={"help": "updates of its training"})
    lr: float = field(default=2e-3, metadata={"help": "peak learning rate"})


class Tower(nn.Module):
    """One camera's picture (M, 3, h, w) as the places of MAPS features, and a coarse look."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in ((3, 32), (32, 48))
        )
        self.maps = nn.Conv2d(48, MAPS, 3, padding=1)
        self.coarse = nn.ModuleList(nn.Conv2d(a, 64, 3, stride=2, padding=1) for a in (MAPS, 64))

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        for convolution in self.down:
            x = F.gelu(convolution(x))
        x = self.maps(x)
        h, w = x.shape[-2:]
        weight = x.flatten(2).float().softmax(dim=-1).unflatten(2, (h, w))
        row = (weight.sum(3) * torch.linspace(-1, 1, h, device=x.device)).sum(2)
        column = (weight.sum(2) * torch.linspace(-1, 1, w, device=x.device)).sum(2)
        x = F.gelu(x)
        for convolution in self.coarse:
            x = F.gelu(convolution(x))
        return torch.cat([row, column, x.flatten(1).float()], dim=1)


class StateProbe(nn.Module):
    """Positions (…, n, 3) in m and flags (…, m) as probabilities, from C pictures at once."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, cameras: int, size: tuple[int, int], positions: tuple[str, ...],
        flags: tuple[str, ...],
    ) -> None:  # fmt: skip
        super().__init__()
        self.cameras, self.size, self.positions, self.flags = cameras, size, positions, flags
        self.towers = nn.ModuleList(Tower() for _ in range(cameras))
        features = cameras * (2 * MAPS + 64 * (size[0] // 16) * (size[1] // 16))
        self.hidden = nn.Linear(features, 256)
        self.out = nn.Linear(256, 3 * len(positions) + len(flags))
        begin_by_he(self.towers, self.hidden)
        self.register_buffer("mean", torch.zeros(3 * len(positions)))
        self.register_buffer("std", torch.ones(3 * len(positions)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (M, C, h, w, 3) -> normalised positions (M, 3 n) and logits (M, m)."""
        x = images_to_float(images).permute(1, 0, 4, 2, 3)  # (C, M, 3, h, w)
        x = torch.cat([tower(view) for tower, view in zip(self.towers, x, strict=True)], dim=1)
        x = self.out(F.gelu(self.hidden(x))).float()
        return x.split([3 * len(self.positions), len(self.flags)], dim=-1)

    @torch.no_grad()
    def read(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """uint8 (…, C, h, w, 3) -> name: position (…, 3) in m, or flag (…,) bool."""
        lead, flat = images.shape[:-4], torch.from_numpy(images.reshape(-1, *images.shape[-4:]))
        rows = [self(part) for part in flat.split(512)]
        place = torch.cat([r[0] for r in rows]) * self.std + self.mean
        chance = torch.cat([r[1] for r in rows])
        found = {
            name: place[:, 3 * i : 3 * i + 3].numpy().reshape(*lead, 3)
            for i, name in enumerate(self.positions)
        }
        return found | {
            f: (chance[:, i] > 0).numpy().reshape(lead) for i, f in enumerate(self.flags)
        }


def train_probe(
    recordings: list[Recording], config: ProbeConfig, on_progress: Callable[[int, str], None]
) -> tuple[StateProbe, dict[str, Any]]:
    """A probe from all but the last tenth of ``recordings``, and its error on that tenth."""
    check_truth(recordings)
    held = max(1, len(recordings) // 10)
    images, truth = _joined(recordings[:-held])
    positions = tuple(k for k, v in truth.items() if v.ndim == 2)
    flags = tuple(k for k, v in truth.items() if v.ndim == 1)
    place = torch.from_numpy(np.concatenate([truth[k] for k in positions], axis=1)).float()
    flag = torch.from_numpy(np.stack([truth[k] for k in flags], axis=1)).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        probe = StateProbe(images.shape[1], images.shape[2:4], positions, flags)
    probe.mean, probe.std = place.mean(0), place.std(0).clamp(min=1e-3)
    target = (place - probe.mean) / probe.std
    optimizer = torch.optim.AdamW(probe.parameters(), config.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, config.updates)
    g = torch.Generator().manual_seed(config.seed)
    for i in range(config.updates):
        pick = torch.randint(len(images), (BATCH,), generator=g)
        pictures = blurred(torch.from_numpy(images[pick.numpy()]), g)
        with autocast(torch.device("cpu"), "auto"):
            where, which = probe(pictures)
        loss = F.smooth_l1_loss(where, target[pick], beta=0.1)
        loss = loss + 0.2 * F.binary_cross_entropy_with_logits(which, flag[pick])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        on_progress(1, f"loss {loss.item():.4f}" if i % 50 == 0 else "")
    probe.eval().requires_grad_(False)
    return probe, own_error(probe, recordings[-held:])


def blurred(images: Tensor, g: torch.Generator) -> Tensor:
    """Half of the pictures uint8 (M, C, h, w, 3) with a blur, as imagined ones may have.

    Without it a probe of sharp frames reads nonsense where they are not sharp.
    """
    half = len(images) // 2
    x = images[:half].float().flatten(0, 1).permute(0, 3, 1, 2)  # (M C / 2, 3, h, w)
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4  # binomial: variance 1/2 pixel^2 a pass
    for _ in range(int(torch.randint(1, BLUR + 1, (), generator=g))):
        x = F.pad(x, (1, 1, 1, 1), mode="replicate")
        x = F.conv2d(x, kernel.view(1, 1, 3, 1).expand(3, 1, 3, 1), groups=3)
        x = F.conv2d(x, kernel.view(1, 1, 1, 3).expand(3, 1, 1, 3), groups=3)
    soft = x.permute(0, 2, 3, 1).round().to(torch.uint8).unflatten(0, (half, images.shape[1]))
    return torch.cat([soft, images[half:]])


def check_probe(
    probe: StateProbe, name: str, spec: DataSpec, truth: Mapping[str, np.ndarray]
) -> None:
    """UserError when it does not read the pictures of ``spec``, or reads what the env's truth does
    not tell."""
    expected = len(spec.cameras), spec.image_size
    unknown = sorted({*probe.positions, *probe.flags} - set(truth))
    if (probe.cameras, tuple(probe.size)) != expected or unknown:
        read = ", ".join((*probe.positions, *probe.flags))
        raise UserError(
            f"probe '{name}' reads {read} from {probe.cameras} cameras of {tuple(probe.size)} px; "
            f"here are {expected[0]} of {expected[1]} px and {', '.join(truth)}. Train one, "
            "`worldmodel probe env=… out=runs/probe/mine`, and give probe=runs/probe/mine; or do "
            "without: probe=\\'\\'"
        )


def own_error(probe: StateProbe, recordings: list[Recording]) -> dict[str, Any]:
    """Its error on real frames: median [mm] with interval; the share of flags that are right."""
    images, truth = _joined(recordings)
    found = probe.read(images)
    figures: dict[str, Any] = {"frames": len(images), "episodes": len(recordings)}
    for name in probe.positions:
        wrong = 1000 * np.linalg.norm(found[name] - truth[name], axis=-1)
        figures[f"{name}_mm"] = median_interval(wrong)
    for name in probe.flags:
        figures[f"{name}_agreement"] = float((found[name] == truth[name]).mean())
    return figures


def save_probe(folder: Path, probe: StateProbe, about: dict[str, Any]) -> None:
    """Write ``folder/probe.safetensors``, atomically."""
    header = {
        "format": FORMAT, "cameras": probe.cameras, "size": probe.size,
        "positions": probe.positions, "flags": probe.flags, "about": about,
    }  # fmt: skip
    write_tensors(folder / FILE, probe.state_dict(), header)


def load_probe(folder: Path) -> tuple[StateProbe, dict[str, Any]]:
    """The probe in ``folder`` and what is known of it; UserError for a broken or foreign file."""
    tensors, header = read_tensors(folder / FILE, FORMAT)
    try:
        probe = StateProbe(
            header["cameras"], tuple(header["size"]), tuple(header["positions"]),
            tuple(header["flags"]),
        )  # fmt: skip
        probe.load_state_dict(tensors)
    except (KeyError, RuntimeError) as error:
        raise UserError(f"{folder / FILE} is not a state probe ({error})") from error
    return probe.eval().requires_grad_(False), header["about"]


def _joined(recordings: list[Recording]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    images = np.concatenate([r.images for r in recordings])
    names = recordings[0].truth
    return images, {n: np.concatenate([r.truth[n] for r in recordings]) for n in names}
