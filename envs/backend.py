"""Choice of MuJoCo's offscreen rendering backend, made before MuJoCo is imported."""

from __future__ import annotations

import os
import subprocess
import sys

# Run in a child process: a parent that has initialised EGL hangs its forked children.
_PROBE = """
import ctypes, ctypes.util, sys
def egl():
    lib = ctypes.CDLL("libEGL.so.1")
    lib.eglGetProcAddress.restype = ctypes.c_void_p
    lib.eglGetProcAddress.argtypes = [ctypes.c_char_p]
    pointer = ctypes.c_void_p
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, pointer, pointer)(
        lib.eglGetProcAddress(b"eglQueryDevicesEXT"))
    display_of = ctypes.CFUNCTYPE(pointer, ctypes.c_uint, pointer, pointer)(
        lib.eglGetProcAddress(b"eglGetPlatformDisplayEXT"))
    lib.eglInitialize.argtypes = [pointer, pointer, pointer]
    devices, count = (pointer * 16)(), ctypes.c_int()
    query(16, devices, ctypes.byref(count))
    for device in devices[:count.value]:
        display = display_of(0x313F, device, None)  # EGL_PLATFORM_DEVICE_EXT
        if display and lib.eglInitialize(display, None, None):
            return True
    return False
def osmesa():
    name = ctypes.util.find_library("OSMesa") or "libOSMesa.so.8"
    return bool(ctypes.CDLL(name))
try:
    found = egl() if sys.argv[1] == "egl" else osmesa()
except (OSError, TypeError, ValueError):
    found = False
sys.exit(0 if found else 1)
"""

MISSING_BACKEND = (
    "no rendering backend works: neither EGL nor OSMesa could be started, and images were asked "
    "for. On Debian or Ubuntu: apt-get install libegl1 libgl1-mesa-dri (EGL), or apt-get install "
    "libosmesa6 (OSMesa); then start again. To choose by hand set MUJOCO_GL=egl or "
    "MUJOCO_GL=osmesa. Without images: gym.make(..., cameras=())."
)


def choose_backend() -> str:
    """Set `MUJOCO_GL` to the first backend that works (egl, osmesa), unless it is set already.

    The choice is kept in `os.environ`, so child processes don't probe again. Where none works the
    value becomes "disable": physics still runs, and asking for an image raises `RuntimeError`.
    Outside Linux MuJoCo's own default stands.
    """
    if sys.platform != "linux":
        return os.environ.get("MUJOCO_GL", "")
    if not os.environ.get("MUJOCO_GL"):
        working = (name for name in ("egl", "osmesa") if _works(name))
        os.environ["MUJOCO_GL"] = next(working, "disable")
    return os.environ["MUJOCO_GL"]


def _works(name: str) -> bool:
    """True where the backend's library loads and, for EGL, a device can be initialised."""
    command = [sys.executable, "-I", "-S", "-c", _PROBE, name]
    try:
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0
    except subprocess.TimeoutExpired:
        return False
