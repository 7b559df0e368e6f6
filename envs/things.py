"""What stands on the table: cans, blocks, bins, drawers and marks, as pieces of MJCF. SI units.

A piece is made where a task is defined and placed at every reset: what is loose by its free joint,
what is not by moving its body in the model.
"""

from __future__ import annotations

from dataclasses import dataclass

CAN_RADIUS = 0.033  # m
CAN_HALF_HEIGHT = 0.060  # m
BLOCK_HALF = 0.020  # m, half a side
BIN_HALF = 0.080  # m, half the inner side
BIN_HEIGHT = 0.045  # m, of its walls
DRAWER_TRAVEL = 0.15  # m
DRAWER_INNER = (0.088, 0.095)  # m, half the inner depth and width
DRAWER_FLOOR = 0.014  # m above the table
CABINET_HEIGHT = 0.105  # m
KNOB_REACH = 0.040  # m, from the drawer's front to where the knob is grasped
KNOB_HEIGHT = 0.055  # m


@dataclass(frozen=True)
class Thing:
    """A piece of the scene, and which of its shapes collide."""

    body: str  # MJCF within the worldbody; the body has the thing's name
    loose: tuple[str, ...] = ()  # geoms that may go anywhere: they touch table, hand and things
    rigid: tuple[str, ...] = ()  # geoms held in their place: they touch the hand, and loose ones
    friction: float = 0.8  # against the finger pads
    slide: float = 0.5  # friction against the table, of what is loose


def can(
    name: str = "can", mass: float = 0.35, friction: float = 0.8, material: str = "can",
    slide: float = 0.5,
) -> Thing:  # fmt: skip
    """An aluminium can of 66 x 120 mm; by default a full one."""
    radius, height = CAN_RADIUS, CAN_HALF_HEIGHT
    axial = mass * radius**2 / 2
    lateral = mass * (3 * radius**2 + (2 * height) ** 2) / 12
    body = f"""<body name="{name}" pos=".5 0 {height}">
      <freejoint name="{name}"/>
      <inertial mass="{mass}" pos="0 0 0" diaginertia="{lateral} {lateral} {axial}"/>
      <geom name="{name}" type="cylinder" size="{radius} {height}" rgba="0 0 0 0" group="4"/>
      <geom type="cylinder" material="{material}" size="{radius} {height - 0.006}"/>
      <geom type="cylinder" material="band" size="{radius + 0.0004} .014"/>
      <geom type="cylinder" material="lid" size="{radius - 0.003} {height}"/>
    </body>"""
    return Thing(body, loose=(name,), friction=friction, slide=slide)


def block(name: str = "block", mass: float = 0.10, friction: float = 0.8) -> Thing:
    """A cube with sides of 40 mm."""
    half, inertia = BLOCK_HALF, mass * (2 * BLOCK_HALF) ** 2 / 6
    body = f"""<body name="{name}" pos=".5 0 {half}">
      <freejoint name="{name}"/>
      <inertial mass="{mass}" pos="0 0 0" diaginertia="{inertia} {inertia} {inertia}"/>
      <geom name="{name}" type="box" material="block" size="{half} {half} {half}"/>
    </body>"""
    return Thing(body, loose=(name,), friction=friction)


def mark(name: str, radius: float, at: tuple[float, float] = (0.5, 0.0)) -> Thing:
    """A green disc on the table."""
    return Thing(
        f"""<body name="{name}" pos="{at[0]} {at[1]} .0002">
      <geom name="{name}" type="cylinder" material="home" size="{radius} .0008"/></body>"""
    )


def open_box(name: str = "bin") -> Thing:
    """A box without a lid, fixed to the table; its body's origin is the middle of its floor."""
    half, wall, z = BIN_HALF, 0.004, BIN_HEIGHT / 2
    shapes = {
        "floor": (half, half, 0.002, 0, 0, 0.002),
        "left": (half + 2 * wall, wall, z, 0, half + wall, z),
        "right": (half + 2 * wall, wall, z, 0, -half - wall, z),
        "near": (wall, half, z, -half - wall, 0, z),
        "far": (wall, half, z, half + wall, 0, z),
    }
    names = tuple(f"{name}_{part}" for part in shapes)
    geoms = "".join(_box(f"{name}_{part}", "bin", *size) for part, size in shapes.items())
    return Thing(f'<body name="{name}" pos=".5 0 0">{geoms}</body>', rigid=names)


def cabinet(name: str = "cabinet") -> Thing:
    """A low cabinet, fixed to the table, whose drawer comes out toward the robot by 0.15 m.

    The body's origin is the middle of its front, on the table. The body `drawer` slides on the
    joint `drawer`, 0 when shut; its origin is the middle of its own front.
    """
    deep, wide = DRAWER_INNER
    back, side, top = 2 * deep + 0.036, wide + 0.020, CABINET_HEIGHT
    fixed = {
        "left": (back / 2, 0.004, top / 2, back / 2, side, top / 2),
        "right": (back / 2, 0.004, top / 2, back / 2, -side, top / 2),
        "back": (0.004, side, top / 2, back, 0, top / 2),
        "top": (back / 2, side + 0.004, 0.004, back / 2, 0, top),
    }
    z, low = 0.040, DRAWER_FLOOR  # half the height of the drawer's front; its floor's upper side
    moving = {
        "front": (0.005, wide + 0.012, z, 0.005, 0, z + 0.006),
        "floor": (deep, wide, 0.004, deep + 0.010, 0, low - 0.004),
        "inner_left": (deep, 0.004, 0.028, deep + 0.010, wide + 0.004, low + 0.024),
        "inner_right": (deep, 0.004, 0.028, deep + 0.010, -wide - 0.004, low + 0.024),
        "inner_back": (0.004, wide, 0.028, 2 * deep + 0.014, 0, low + 0.024),
    }
    cabinet = "".join(_box(f"{name}_{k}", "cabinet", *size) for k, size in fixed.items())
    drawer = "".join(_box(f"drawer_{k}", "drawer", *size) for k, size in moving.items())
    knob = _box("knob", "knob", 0.030, 0.010, 0.016, -0.030, 0, KNOB_HEIGHT)
    body = f"""<body name="{name}" pos=".62 0 0">{cabinet}
      <body name="drawer">
        <inertial mass=".6" pos=".08 0 .03" diaginertia=".002 .002 .003"/>
        <joint name="drawer" type="slide" axis="-1 0 0" range="0 {DRAWER_TRAVEL}" armature="0.1"
          damping="6" frictionloss="1.0"/>
        {drawer}{knob}
      </body></body>"""
    names = (*(f"{name}_{k}" for k in fixed), *(f"drawer_{k}" for k in moving), "knob")
    return Thing(body, rigid=names)


def _box(
    name: str, material: str, a: float, b: float, c: float, x: float, y: float, z: float
) -> str:
    """Half sides, then the middle."""
    return (
        f'<geom name="{name}" type="box" material="{material}" size="{a} {b} {c}" '
        f'pos="{x} {y} {z}"/>'
    )
