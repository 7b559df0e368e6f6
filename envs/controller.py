"""From end-effector deltas to joint targets: a commanded pose, and damped-least-squares IK.

The pose is that of the tool centre point (TCP), between the finger pads. Orientations are rotation
matrices of the hand; straight down means the hand's z axis is -z of the world and its x axis +x.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from envs.scene import JOINT_HIGH, JOINT_LOW, JOINT_SPEED

DOWN = np.diag([1.0, -1.0, -1.0])
NOMINAL_JOINTS = np.array([0.0, 0.10, 0.0, -2.20, 0.0, 2.30, 0.785])  # rad, hand down at x = 0.5


@dataclass(frozen=True)
class ControllerConfig:
    """Scales and limits of the commanded pose."""

    period: float = 0.1  # s, of a control step
    translation: float = 0.03  # m per step for an action of 1.0
    rotation: float = 0.20  # rad per step for an action of 1.0
    low: tuple[float, float, float] = (0.24, -0.34, 0.016)  # m, workspace of the TCP
    high: tuple[float, float, float] = (0.72, 0.34, 0.36)  # m
    lead: float = 0.06  # m, how far the commanded position may run ahead of the real one
    rotation_lead: float = 0.5  # rad, the same for the orientation
    tilt: float = 0.6  # rad, largest tilt of the hand from straight down
    yaw: float = 1.9  # rad, largest turn about the vertical
    iterations: int = 4  # IK steps per control step
    damping: float = 0.03  # of the least squares


def rotation_matrix(vector: np.ndarray) -> np.ndarray:
    """Rotation matrix (3, 3) of a rotation vector (axis times angle in rad, world axes)."""
    angle = float(np.sqrt(vector @ vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross)


def rotation_vector(matrix: np.ndarray) -> np.ndarray:
    """Rotation vector (3,) of a rotation matrix; inverse of `rotation_matrix` below pi."""
    quat, vector = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quat, np.ascontiguousarray(matrix).ravel())
    mujoco.mju_quat2Vel(vector, quat, 1.0)
    return vector


def yaw_of(matrix: np.ndarray) -> float:
    """Angle (rad) of the hand's x axis about the vertical; 0 points away from the robot."""
    return float(np.arctan2(matrix[1, 0], matrix[0, 0]))


def hand_down(yaw: float) -> np.ndarray:
    """Rotation (3, 3) of a hand that points straight down, turned by `yaw` (rad)."""
    return rotation_matrix(np.array([0.0, 0.0, yaw])) @ DOWN


def split_tilt(matrix: np.ndarray) -> tuple[float, np.ndarray]:
    """Write a hand's rotation as tilt @ hand_down(yaw); return (yaw, tilt as a vector in rad)."""
    pointing = matrix[:, 2]
    axis = np.array([pointing[1], -pointing[0], 0.0])  # (0, 0, -1) x pointing
    sine = float(np.hypot(axis[0], axis[1]))
    tilt = axis * (np.arctan2(sine, -pointing[2]) / sine) if sine > 1e-9 else np.zeros(3)
    return yaw_of(rotation_matrix(tilt).T @ matrix), tilt


class Controller:
    """Keeps the commanded pose and turns it into joint targets, on a kinematic copy of the arm."""

    def __init__(self, arm: mujoco.MjModel, config: ControllerConfig) -> None:
        self.config = config
        self.position = np.zeros(3)  # commanded TCP position, m
        self.rotation = DOWN.copy()  # commanded hand rotation
        self.joints = NOMINAL_JOINTS.copy()  # joint targets, rad
        self._model, self._data = arm, mujoco.MjData(arm)
        self._site = arm.site("tcp").id
        self._low, self._high = np.array(config.low), np.array(config.high)
        self._jacobian = np.zeros((6, arm.nv))

    def reset(self, position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        """Command this pose and return the joint angles (7,) that reach it."""
        self.position, self.rotation = np.array(position, float), np.array(rotation, float)
        self.joints = NOMINAL_JOINTS.copy()
        self.joints[0] = np.arctan2(position[1], position[0])
        self.joints = self._solve(100)
        return self.joints.copy()

    def move(self, action: np.ndarray, position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        """Add a delta (6,) in [-1, 1] to the commanded pose, given the real one.

        Returns the joint targets (7,). The commanded pose stays in the workspace and within its
        lead over the real pose, so that it cannot wind up against an obstacle; joint targets keep
        to the published joint speeds.
        """
        config = self.config
        lead = self.position + config.translation * action[:3] - position
        distance = float(np.sqrt(lead @ lead))
        if distance > config.lead:
            lead *= config.lead / distance
        self.position = np.clip(position + lead, self._low, self._high)

        turned = rotation_matrix(config.rotation * action[3:6]) @ self.rotation
        ahead = rotation_vector(turned @ rotation.T)
        angle = float(np.sqrt(ahead @ ahead))
        if angle > config.rotation_lead:
            turned = rotation_matrix(ahead * (config.rotation_lead / angle)) @ rotation
        yaw, tilt = split_tilt(turned)
        size = float(np.sqrt(tilt @ tilt))
        if size > config.tilt:
            tilt *= config.tilt / size
        yaw = float(np.clip(yaw, -config.yaw, config.yaw))
        self.rotation = rotation_matrix(tilt) @ hand_down(yaw)

        reach = JOINT_SPEED * config.period  # rad
        solved = self._solve(config.iterations)
        self.joints = np.clip(solved, self.joints - reach, self.joints + reach)
        return self.joints

    def _solve(self, iterations: int) -> np.ndarray:
        """Joint angles (7,) nearer to the commanded pose, from the present targets."""
        model, data, config = self._model, self._data, self.config
        joints, jacobian = self.joints.copy(), self._jacobian
        error = np.empty(6)
        damping = config.damping**2 * np.eye(6)
        for _ in range(iterations):
            data.qpos[:7] = joints
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            error[:3] = self.position - data.site_xpos[self._site]
            error[3:] = rotation_vector(self.rotation @ data.site_xmat[self._site].reshape(3, 3).T)
            mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], self._site)
            j = jacobian[:, :7]
            posture = 0.05 * (NOMINAL_JOINTS - joints)
            posture[[0, 6]] = 0.0  # these two aim the arm; the posture is about the elbow
            step = posture + j.T @ np.linalg.solve(j @ j.T + damping, error - j @ posture)
            joints = np.clip(joints + step, JOINT_LOW + 0.01, JOINT_HIGH - 0.01)
        return joints
