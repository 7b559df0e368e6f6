"""Offscreen pictures of a MuJoCo model: one context for every camera and size of an environment."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import Any

import mujoco
import numpy as np

from envs.backend import MISSING_BACKEND

_HIDDEN = 5  # a geom group that MjvOption does not draw by default
_NO_RENDERING = {"disable", "disabled", "off", "false", "0"}


def _context_class() -> Any:
    """MuJoCo's GL context for the chosen backend, even where MuJoCo was imported before `envs`."""
    name = os.environ.get("MUJOCO_GL", "").lower()
    if name in _NO_RENDERING:
        raise RuntimeError(MISSING_BACKEND)
    try:
        if name == "egl":
            from mujoco.egl import GLContext
        elif name == "osmesa":
            from mujoco.osmesa import GLContext
        else:
            from mujoco.gl_context import GLContext
    except (ImportError, AttributeError) as error:
        raise RuntimeError(f"MUJOCO_GL={name!r} failed ({error}); {MISSING_BACKEND}") from error
    return GLContext


class Renderer:
    """Renders any camera of `model` at any size; pictures are anti-aliased by 2x2 supersampling."""

    SUPERSAMPLING = 2

    def __init__(
        self, model: mujoco.MjModel, size: tuple[int, int], hidden: tuple[int, ...] = ()
    ) -> None:
        """`size` (h, w) is the largest picture expected; larger ones enlarge the buffer. Geoms of
        the groups in `hidden` are not drawn."""
        self._model = model
        self._buffer = self._pixels(size)
        make_context = _context_class()
        try:
            self._gl: Any = make_context(self._buffer[1], self._buffer[0])
            self._gl.make_current()
            scale = mujoco.mjtFontScale.mjFONTSCALE_100.value
            model.vis.global_.offheight, model.vis.global_.offwidth = self._buffer
            self._context = mujoco.MjrContext(model, scale)
        except (ImportError, RuntimeError, mujoco.FatalError) as error:
            raise RuntimeError(f"rendering could not start ({error}); {MISSING_BACKEND}") from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        _LIVE.add(self)
        atexit.unregister(_close_all)
        atexit.register(_close_all)  # anew, to run before MuJoCo's own hook ends the display
        self._scene = mujoco.MjvScene(model, maxgeom=1000)
        self._groups = model.geom_group.copy()
        self._option = mujoco.MjvOption()
        self._option.geomgroup[list(hidden)] = 0
        self._perturbation = mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED

    def _pixels(self, size: tuple[int, int]) -> tuple[int, int]:
        return size[0] * self.SUPERSAMPLING, size[1] * self.SUPERSAMPLING

    def images(
        self, data: mujoco.MjData, cameras: tuple[str, ...], size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """Return one uint8 picture (h, w, 3) per camera name."""
        height, width = self._pixels(size)
        self._gl.make_current()
        if height > self._buffer[0] or width > self._buffer[1]:
            self._buffer = (max(height, self._buffer[0]), max(width, self._buffer[1]))
            mujoco.mjr_resizeOffscreen(self._buffer[1], self._buffer[0], self._context)
        viewport = mujoco.MjrRect(0, 0, width, height)
        pictures = {}
        for name in cameras:
            self._camera.fixedcamid = self._model.camera(name).id
            self._model.geom_group[:] = self._groups_in_view(data, width / height)
            mujoco.mjv_updateScene(
                self._model, data, self._option, self._perturbation, self._camera,
                mujoco.mjtCatBit.mjCAT_ALL.value, self._scene,
            )  # fmt: skip
            mujoco.mjr_render(viewport, self._scene, self._context)
            self._model.geom_group[:] = self._groups
            raw = np.empty((height, width, 3), np.uint8)
            mujoco.mjr_readPixels(raw, None, viewport, self._context)
            pictures[name] = _halve(raw[::-1])  # OpenGL's rows run from the bottom up
        return pictures

    def _groups_in_view(self, data: mujoco.MjData, aspect: float) -> np.ndarray:
        """Geom groups (ngeom,) in which the shapes outside the camera's view are hidden.

        Half of the arm is out of view, and its vertices cost as much as the pixels.
        """
        model, index = self._model, self._camera.fixedcamid
        axes = data.cam_xmat[index].reshape(3, 3)
        x, y, z = ((data.geom_xpos - data.cam_xpos[index]) @ axes).T  # the camera looks along -z
        radius, slope = model.geom_rbound, np.tan(np.radians(model.cam_fovy[index]) / 2)
        seen = z < radius
        for offset, tangent in ((y, slope), (x, slope * aspect)):
            seen &= np.abs(offset) < radius * np.sqrt(1.0 + tangent**2) - z * tangent
        return np.where(seen | (radius == 0.0), self._groups, _HIDDEN)  # a plane's radius is 0

    def close(self) -> None:
        """Free the context; calling it again does nothing."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None


_LIVE: weakref.WeakSet[Renderer] = weakref.WeakSet()


def _close_all() -> None:
    for renderer in tuple(_LIVE):
        renderer.close()


def _halve(picture: np.ndarray) -> np.ndarray:
    """Mean over 2x2 blocks: uint8 (2h, 2w, 3) to uint8 (h, w, 3)."""
    rows = picture[0::2].astype(np.uint16)
    rows += picture[1::2]
    total = rows[:, 0::2] + rows[:, 1::2]
    total += 2
    return (total >> 2).astype(np.uint8)
