"""Randomisation of colour, light and camera, drawn anew at every reset."""

from __future__ import annotations

import mujoco
import numpy as np

RANDOMISATIONS = ("colour", "light", "camera")

# Largest change per channel of each material's colour (0 to 1). The can keeps its red family.
_COLOURS = {"can": 0.18, "band": 0.10, "lid": 0.15, "table": 0.20, "floor": 0.2, "home": 0.15,
            "block": 0.15, "bin": 0.15, "cabinet": 0.15, "drawer": 0.12}  # fmt: skip


class Randomiser:
    """Holds the scene's own values and writes jittered copies into the model."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._colours = {name: model.material(name).rgba.copy() for name in _COLOURS}
        self._ambient = np.array(model.vis.headlight.ambient)
        self._lamp = {
            "diffuse": model.light("lamp").diffuse.copy(),
            "dir": model.light("lamp").dir.copy(),
        }
        self._cameras = {
            name: (model.camera(name).pos.copy(), model.camera(name).quat.copy())
            for name in ("front", "wrist")
        }

    def apply(self, kinds: tuple[str, ...], rng: np.random.Generator) -> None:
        """Draw the named kinds (see `RANDOMISATIONS`); what isn't named keeps the scene's value."""
        if "colour" in kinds:
            self._colour(rng)
        if "light" in kinds:
            self._light(rng)
        if "camera" in kinds:
            self._camera(rng)

    def _colour(self, rng: np.random.Generator) -> None:
        for name, spread in _COLOURS.items():
            colour = self._colours[name].copy()
            colour[:3] = np.clip(colour[:3] + rng.uniform(-spread, spread, 3), 0.0, 1.0)
            self._model.material(name).rgba = colour

    def _light(self, rng: np.random.Generator) -> None:
        """Brightness within +-30 %, the lamp's direction within about 25 degrees."""
        lamp = self._model.light("lamp")
        lamp.diffuse = self._lamp["diffuse"] * rng.uniform(0.7, 1.3)
        direction = self._lamp["dir"] + rng.uniform(-0.4, 0.4, 3) * np.array([1.0, 1.0, 0.0])
        lamp.dir = direction / np.linalg.norm(direction)
        self._model.vis.headlight.ambient[:] = self._ambient * rng.uniform(0.8, 1.2)

    def _camera(self, rng: np.random.Generator) -> None:
        """Front camera: +-20 mm and +-1.5 degrees; wrist camera: +-3 mm and +-2 degrees."""
        for name, shift, turn in (("front", 0.02, 1.5), ("wrist", 0.003, 2.0)):
            position, quat = self._cameras[name]
            camera = self._model.camera(name)
            camera.pos = position + rng.uniform(-shift, shift, 3)
            delta, turned = np.empty(4), np.empty(4)
            mujoco.mju_euler2Quat(delta, np.radians(rng.uniform(-turn, turn, 3)), "xyz")
            mujoco.mju_mulQuat(turned, quat, delta)
            camera.quat = turned
