"""Policies: who acts. ``policies.load(path)`` needs nothing but a checkpoint's path or name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from policies.base import Policy
from policies.chunking import ChunkPlayer
from policies.noisy import NoisyPolicy
from policies.random import RandomPolicy
from policies.scripted import ScriptedPolicy

if TYPE_CHECKING:
    import gymnasium

    from policies.flow_policy import FlowPolicy

__all__ = ["ChunkPlayer", "NoisyPolicy", "Policy", "RandomPolicy", "ScriptedPolicy", "load"]


def load(
    path: str | Path,
    env: gymnasium.Env | None = None,
    *,
    replan: int | None = None,
    flow_steps: int | None = None,
    device: str = "cpu",
) -> FlowPolicy:
    """The policy in the checkpoint folder ``path``, which may be the name of a shipped one, or
    ``user/name`` or ``user/name@revision`` on the Hugging Face Hub where no such folder exists.

    ``replan`` steps of every plan are played and a plan takes ``flow_steps`` denoising steps; None
    is what the checkpoint says. With ``env`` given, UserError when its spaces don't fit.
    """
    from policies.flow_policy import FlowPolicy

    return FlowPolicy.load(path, env, replan=replan, flow_steps=flow_steps, device=device)
