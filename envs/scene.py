"""The MJCF of the scene: a Franka Panda at a table's edge, things, cameras and a light.

World frame: origin at the robot's base on the table top, x away from the robot, z up. SI units.

Sources. Link frames, joint, velocity and torque limits: Franka Emika's `franka_description` and
FCI documentation. Link masses and inertias: the identified parameters that `franka_description`
and MuJoCo Menagerie's `franka_emika_panda` publish. The shapes are our own primitives, sized after
the coarse collision capsules of `franka_description`. Everything is drawn with primitive geoms: in
software rendering a frame then takes a fraction of a millisecond.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import mujoco
import numpy as np

from envs.things import Thing

JOINT_LOW = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])  # rad
JOINT_HIGH = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])  # rad
JOINT_SPEED = np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61])  # rad/s
JOINT_TORQUE = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)  # N m
STIFFNESS = (4500.0, 4500.0, 3500.0, 3500.0, 2000.0, 2000.0, 2000.0)  # N m/rad
DAMPING = (250.0, 250.0, 180.0, 180.0, 80.0, 80.0, 60.0)  # N m s/rad

GRIPPER_MAX_OPENING = 0.08  # m
TABLE_X = (-0.15, 0.85)  # m
TABLE_Y = (-0.50, 0.50)  # m

# name: parent's frame to ours (pos, quat), mass, centre of mass, inertia (xx yy zz xy xz yz)
_LINKS = (
    ("link1", "0 0 .333", "1 0 0 0", 4.970684, ".003875 .002081 -.04762",
     ".70337 .70661 .0091170 -.000139 .0067720 .019169"),
    ("link2", "0 0 0", "1 -1 0 0", .646926, "-.003141 -.02872 .003495",
     ".0079620 .028110 .025995 -.003925 .010254 .000704"),
    ("link3", "0 -.316 0", "1 1 0 0", 3.228604, ".027518 .039252 -.066502",
     ".037242 .036155 .01083 -.004761 -.011396 -.012805"),
    ("link4", ".0825 0 0", "1 1 0 0", 3.587895, "-.05317 .104419 .027454",
     ".025853 .019552 .028323 .007796 -.001332 .008641"),
    ("link5", "-.0825 .384 0", "1 -1 0 0", 1.225946, "-.011953 .041065 -.038437",
     ".035549 .029474 .008627 -.002117 -.004037 .000229"),
    ("link6", "0 0 0", "1 1 0 0", 1.666555, ".060149 -.014117 -.010517",
     ".001964 .004354 .005433 .000109 -.001158 .000341"),
    ("link7", ".088 0 0", "1 1 0 0", .735522, ".010517 -.004252 .061597",
     ".012516 .010027 .004815 -.000428 -.001196 -.000741"),
)  # fmt: skip


def _box(material: str, size: str, pos: str, extra: str = "") -> str:
    return f'<geom type="box" material="{material}" size="{size}" pos="{pos}" {extra}/>'


def _rod(kind: str, material: str, radius: float, ends: str) -> str:
    return f'<geom type="{kind}" material="{material}" size="{radius}" fromto="{ends}"/>'


_LOOKS = {
    "link1": _rod("capsule", "white", .062, "0 0 -.17 0 0 -.01"),
    "link2": _rod("cylinder", "white", .060, "0 0 -.065 0 0 .065")
    + _rod("cylinder", "dark", .045, "0 0 -.070 0 0 .070")
    + _rod("capsule", "white", .058, "0 -.03 0 0 -.17 0"),
    "link3": _rod("capsule", "white", .055, "0 0 -.12 0 0 -.02")
    + _rod("cylinder", "dark", .057, "0 0 -.150 0 0 -.138")
    + _rod("capsule", "white", .052, "0 0 0 .0825 0 0"),
    "link4": _rod("cylinder", "white", .055, "0 0 -.062 0 0 .062")
    + _rod("cylinder", "dark", .042, "0 0 -.067 0 0 .067")
    + _rod("capsule", "white", .050, "0 0 0 -.0825 .09 0"),
    "link5": _rod("capsule", "white", .055, "0 0 -.27 0 0 -.22")
    + _rod("cylinder", "dark", .056, "0 0 -.292 0 0 -.282")
    + _rod("capsule", "white", .042, "0 .055 -.21 0 .07 -.05")
    + _rod("capsule", "white", .048, "0 .05 -.02 0 0 0"),
    "link6": _rod("cylinder", "white", .050, "0 0 -.055 0 0 .055")
    + _rod("cylinder", "blue", .038, "0 0 -.060 0 0 .060")
    + _rod("capsule", "white", .046, "0 0 0 .088 0 0"),
    "link7": _rod("cylinder", "white", .046, "0 0 -.03 0 0 .075")
    + _rod("cylinder", "dark", .042, "0 0 .075 0 0 .107"),
}  # fmt: skip

_BASE_LOOK = (
    _box("white", ".11 .085 .02", "-.03 0 .02")
    + _rod("cylinder", "white", .072, "0 0 .02 0 0 .145")
    + _rod("cylinder", "dark", .066, "0 0 .14 0 0 .165")
)  # fmt: skip


@dataclass(frozen=True)
class SceneConfig:
    """What may differ between two scenes."""

    things: tuple[Thing, ...] = ()
    grip_force: float = 20.0  # N, each finger
    timestep: float = 0.005  # s


def build_model(config: SceneConfig, arm_only: bool = False) -> mujoco.MjModel:
    """Compile the scene; `arm_only` leaves out shapes, table and things (kinematics for the IK)."""
    return mujoco.MjModel.from_xml_string(scene_xml(config, arm_only))


def scene_xml(config: SceneConfig, arm_only: bool = False) -> str:
    """The scene as MJCF text."""
    actuators = "".join(
        f'<position joint="joint{i + 1}" kp="{STIFFNESS[i]}" kv="{DAMPING[i]}" '
        f'ctrlrange="{JOINT_LOW[i]} {JOINT_HIGH[i]}"/>'
        for i in range(7)
    )
    world = "" if arm_only else _world(config)
    return f"""
<mujoco model="panda_table">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{config.timestep}" integrator="implicitfast" cone="elliptic" impratio="5"/>
  <visual>
    <quality shadowsize="0" offsamples="0" numslices="20" numstacks="6" numquads="1"/>
    <global offwidth="256" offheight="256"/>
    <headlight ambient=".42 .42 .42" diffuse=".25 .25 .25" specular="0 0 0"/>
    <map znear=".01" zfar="10"/>
  </visual>
  <statistic extent="1" center=".4 0 .2"/>
  <default>
    <geom contype="0" conaffinity="0" mass="0"/>
    <joint axis="0 0 1" armature="0.1" damping="1" actuatorgravcomp="true"/>
    <material specular="0.1" shininess="0.2"/>
  </default>
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1=".74 .80 .86" rgb2=".55 .60 .66"
      width="16" height="96"/>
    <texture name="checker" type="2d" builtin="checker" rgb1=".80 .76 .67" rgb2=".72 .67 .57"
      width="256" height="256"/>
    <material name="table" texture="checker" texrepeat="10 10" texuniform="true"/>
    <material name="wood" rgba=".45 .38 .30 1"/>
    <material name="floor" rgba=".50 .54 .58 1"/>
    <material name="white" rgba=".93 .94 .95 1"/>
    <material name="dark" rgba=".24 .25 .27 1"/>
    <material name="finger" rgba=".10 .11 .13 1"/>
    <material name="blue" rgba=".10 .45 .75 1"/>
    <material name="can" rgba=".82 .08 .10 1"/>
    <material name="band" rgba=".97 .97 .97 1"/>
    <material name="lid" rgba=".62 .65 .69 1"/>
    <material name="home" rgba=".36 .66 .46 1"/>
    <material name="block" rgba=".13 .35 .75 1"/>
    <material name="bin" rgba=".90 .72 .22 1"/>
    <material name="cabinet" rgba=".52 .38 .28 1"/>
    <material name="drawer" rgba=".86 .78 .64 1"/>
    <material name="knob" rgba=".15 .15 .17 1"/>
  </asset>
  <worldbody>
    <body name="base">{_BASE_LOOK}{_arm(0)}</body>
    {world}
  </worldbody>
  <tendon>
    <fixed name="opening"><joint joint="finger1" coef="1"/><joint joint="finger2" coef="1"/></fixed>
  </tendon>
  <equality>
    <joint joint1="finger1" joint2="finger2" solref="0.01 1" solimp="0.95 0.99 0.001"/>
  </equality>
  <actuator>
    {actuators}
    <position name="gripper" tendon="opening" kp="2000" kv="20" ctrlrange="0 {GRIPPER_MAX_OPENING}"
      forcerange="-{config.grip_force} {config.grip_force}"/>
  </actuator>
  {"" if arm_only else _contacts(config)}
</mujoco>"""


def _arm(index: int) -> str:
    """Link `index` and all that it carries, as nested bodies."""
    if index == len(_LINKS):
        return _hand()
    name, pos, quat, mass, centre, inertia = _LINKS[index]
    torque = JOINT_TORQUE[index]
    return f"""<body name="{name}" pos="{pos}" quat="{quat}" gravcomp="1">
      <inertial mass="{mass}" pos="{centre}" fullinertia="{inertia}"/>
      <joint name="joint{index + 1}" range="{JOINT_LOW[index]} {JOINT_HIGH[index]}"
        actuatorfrcrange="-{torque} {torque}"/>
      {_LOOKS[name]}{_arm(index + 1)}</body>"""


def _hand() -> str:
    """The Franka hand: body, two fingers with one flat pad each, wrist camera, tool centre point.

    One box per finger: several small pads wedge a cylinder, which then holds without friction.
    """
    finger = """<body name="finger{n}" pos="0 0 .0584" quat="{quat}" gravcomp="1">
        <inertial mass=".015" pos="0 0 0" diaginertia="2.375e-6 2.375e-6 7.5e-7"/>
        <joint name="finger{n}" type="slide" axis="0 1 0" range="0 .04" armature=".4"
          damping="150"/>
        <geom type="box" material="finger" size=".011 .0085 .014" pos="0 .0155 .012"/>
        <geom name="pad{n}" type="box" material="finger" size=".0125 .007 .0145" pos="0 .007 .040"/>
      </body>"""
    return f"""<body name="hand" pos="0 0 .107" quat=".9238795 0 0 -.3826834" gravcomp="1">
      <inertial mass=".73" pos="-.01 0 .03" diaginertia=".001 .0025 .0017"/>
      <geom name="hand" type="box" material="white" size=".030 .100 .030" pos="0 0 .030"/>
      {_box("dark", ".020 .096 .004", "0 0 .062")}
      {_rod("cylinder", "dark", 0.032, "0 0 -.002 0 0 .008")}
      <site name="tcp" pos="0 0 .1034" size=".005" group="4"/>
      <camera name="wrist" pos=".090 0 .030" xyaxes="0 1 0 .914 0 .407" fovy="80"/>
      {finger.format(n=1, quat="1 0 0 0")}{finger.format(n=2, quat="0 0 0 1")}
    </body>"""


def _world(config: SceneConfig) -> str:
    """Table, things, cameras and light."""
    middle, half = (TABLE_X[0] + TABLE_X[1]) / 2, (TABLE_X[1] - TABLE_X[0]) / 2
    legs = "".join(
        _box(
            "wood", ".03 .03 .33", f"{middle + sx * (half - 0.05)} {sy * (TABLE_Y[1] - 0.05)} -.37"
        )
        for sx in (-1, 1)
        for sy in (-1, 1)
    )
    return f"""
    <light name="lamp" type="directional" pos="1 -1 2" dir="-.45 .35 -1" diffuse=".5 .5 .5"
      specular=".1 .1 .1" castshadow="false"/>
    <geom name="floor" type="plane" material="floor" size="4 4 .1" pos="0 0 -.7"/>
    <geom name="table" type="plane" size="2 2 .1" rgba="0 0 0 0" group="4"/>
    {_box("table", f"{half} {TABLE_Y[1]} .02", f"{middle} 0 -.02")}{legs}
    <camera name="front" pos="2.121 0 2.457" xyaxes="0 1 0 -.8192 0 .5736" fovy="12.4"/>
    <camera name="viewer" pos="1.45 -1.05 .95" xyaxes=".656 .755 0 -.30 .26 .918" fovy="36"/>
    {"".join(thing.body for thing in config.things)}"""


def _contacts(config: SceneConfig) -> str:
    """Only these pairs collide; friction is stated per pair (slide, slide, spin, roll, roll)."""
    firm = 'solref=".01 1" solimp=".97 .99 .001"'
    pairs = [
        _pair(pad, "table", 3, ".3 .3 .005 .0001 .0001") for pad in ("pad1", "pad2")
    ]  # fmt: skip
    for i, thing in enumerate(config.things):
        grip = f"{thing.friction} {thing.friction} {0.01 * thing.friction} .0001 .0001"
        for geom in thing.loose:
            pairs.append(_pair(geom, "table", 6, f"{thing.slide} {thing.slide} .005 .003 .003"))
        for geom in (*thing.loose, *thing.rigid):
            pairs += [_pair(geom, pad, 4, grip, firm) for pad in ("pad1", "pad2")]
            pairs.append(_pair(geom, "hand", 3, ".3 .3 .005 .0001 .0001"))
        for other in config.things[i + 1 :]:
            for a, b in itertools.product(
                (*thing.loose, *thing.rigid), (*other.loose, *other.rigid)
            ):
                if a in thing.loose or b in other.loose:
                    pairs.append(_pair(a, b, 4, ".5 .5 .005 .003 .003"))
    return f"<contact>{''.join(pairs)}</contact>"


def _pair(a: str, b: str, condim: int, friction: str, extra: str = "") -> str:
    return f'<pair geom1="{a}" geom2="{b}" condim="{condim}" friction="{friction}" {extra}/>'
