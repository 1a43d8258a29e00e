"""Small messages and transforms for the tests, of rosbags' classes (they have the fields of rclpy's)."""

import cv2
import numpy as np

from panoocc_core.geometry import quaternion_from_rotation, rigid, rotation_from_quaternion
from panoocc_ros.messages.fields import fill_header, set_stamp
from panoocc_ros.messages.types import new_message

MS = 1_000_000
SIZE_HW = (48, 64)


def picture(seed=0, size_hw=SIZE_HW):
    """A smooth RGB picture, so that JPEG keeps it nearly unchanged."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(small, size_hw[::-1], interpolation=cv2.INTER_CUBIC)


def jpeg(stamp_ns, frame_id, rgb=None, suffix=".jpg"):
    message = new_message("sensor_msgs/msg/CompressedImage")
    fill_header(message.header, stamp_ns, frame_id)
    message.format = "jpeg"
    rgb = picture() if rgb is None else rgb
    message.data = cv2.imencode(suffix, rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1].reshape(-1)
    return message


def raw_image(encoding, data, height, width, step, is_bigendian=0):
    message = new_message("sensor_msgs/msg/Image")
    message.encoding, message.height, message.width, message.step = encoding, height, width, step
    message.is_bigendian = is_bigendian
    message.data = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    return message


def camera_info(size_hw=SIZE_HW, focal=50.0, model="plumb_bob", distortion=(), frame_id="", stamp_ns=0):
    message = new_message("sensor_msgs/msg/CameraInfo")
    fill_header(message.header, stamp_ns, frame_id)
    message.height, message.width = size_hw
    message.distortion_model, message.d = model, np.array(distortion, dtype=np.float64)
    message.k = np.array([focal, 0, size_hw[1] / 2, 0, focal, size_hw[0] / 2, 0, 0, 1], dtype=np.float64)
    message.r = np.eye(3).reshape(-1)
    message.p = np.hstack([message.k.reshape(3, 3), np.zeros((3, 1))]).reshape(-1)
    return message


def tf(*items):
    """A TFMessage of (parent, child, stamp_ns, parent_from_child)."""
    message = new_message("tf2_msgs/msg/TFMessage")
    for parent, child, stamp_ns, matrix in items:
        one = new_message("geometry_msgs/msg/TransformStamped")
        one.header.frame_id, one.child_frame_id = parent, child
        set_stamp(one.header.stamp, stamp_ns)
        place, turn = one.transform.translation, one.transform.rotation
        place.x, place.y, place.z = matrix[:3, 3].tolist()
        turn.x, turn.y, turn.z, turn.w = quaternion_from_rotation(matrix[:3, :3]).tolist()
        message.transforms.append(one)
    return message


def pose_of(pose):
    """A geometry_msgs/Pose as a matrix [4, 4]."""
    place, turn = pose.position, pose.orientation
    rotation = rotation_from_quaternion(np.array([turn.x, turn.y, turn.z, turn.w]))
    return rigid(rotation, np.array([place.x, place.y, place.z]))


def listed(grid):
    """Numbers of the voxels that a sparse panoocc/VoxelGrid lists."""
    return np.flatnonzero(np.unpackbits(np.array(grid.occupied, np.uint8), bitorder="little"))


def odometry(stamp_ns, pose, velocity=(0, 0, 0), turn=(0, 0, 0), parent="odom", child="base_link"):
    """A nav_msgs/Odometry of a pose [4, 4] and a twist in the child's frame."""
    message = new_message("nav_msgs/msg/Odometry")
    fill_header(message.header, stamp_ns, parent)
    message.child_frame_id = child
    place, rotation = message.pose.pose.position, message.pose.pose.orientation
    place.x, place.y, place.z = pose[:3, 3].tolist()
    rotation.x, rotation.y, rotation.z, rotation.w = quaternion_from_rotation(pose[:3, :3]).tolist()
    linear, angular = message.twist.twist.linear, message.twist.twist.angular
    linear.x, linear.y, linear.z = map(float, velocity)
    angular.x, angular.y, angular.z = map(float, turn)
    return message


def imu(stamp_ns, acceleration=(0, 0, 9.81), turn=(0, 0, 0), frame="imu", lacks=()):
    """A sensor_msgs/Imu; `lacks`: "acceleration", "turn"."""
    message = new_message("sensor_msgs/msg/Imu")
    fill_header(message.header, stamp_ns, frame)
    linear, angular = message.linear_acceleration, message.angular_velocity
    linear.x, linear.y, linear.z = map(float, acceleration)
    angular.x, angular.y, angular.z = map(float, turn)
    for name, covariance in (
        ("acceleration", message.linear_acceleration_covariance),
        ("turn", message.angular_velocity_covariance),
    ):
        covariance[0] = -1.0 if name in lacks else 0.0
    return message
