"""Node parameters: limits, contradictions, and their documentation in config/params.yaml."""

import dataclasses

import pytest
import yaml

from panoocc_core.base.resources import folder
from panoocc_ros.node.settings import NodeSettings
from panoocc_ros.ros.parameter_fields import SettingsError


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"checkpoint": "a.safetensors", "seeded_weights": True}, "exclude each other"),
        ({"seeded_weights": True, "precision": "fp8"}, "precision: 'fp8' is not one of fp32, fp16, bf16"),
        (
            {"seeded_weights": True, "instances": "box"},
            "instances: 'box' is not one of nothing, boxes, components",
        ),
        ({"seeded_weights": True, "tf_timeout_s": float("nan")}, "tf_timeout_s: nan is outside"),
        ({"obstacles_min_z_m": 3.0, "obstacles_max_z_m": 2.0}, "obstacles_max_z_m: 3 m is not below 2 m"),
        ({"obstacles_classes": "car,,bus"}, "obstacles_classes: 'car,,bus' has an empty name"),
        ({"occupancy_max_rate_hz": 1e-300}, "occupancy_max_rate_hz: 1e-300 Hz is less than 0.001 Hz, and not 0"),
        ({"seeded_weights": True, "image_queue": 0}, "image_queue: 0 is outside 1..100"),
        ({"pose_source": "odometry"}, "pose_source: odometry needs the topic"),
        ({"ego_motion": "sensors", "imu_topic": "/imu"}, "ego_motion: sensors needs odometry_topic"),
        ({"imu_topic": "/odom", "odometry_topic": "/odom"}, "imu_topic and odometry_topic: both are"),
    ],
)
def test_bad_values_are_refused_by_name(values, text):
    with pytest.raises(SettingsError, match=text):
        NodeSettings(**values)


def test_params_yaml_documents_every_parameter_with_its_default():
    documented = yaml.safe_load((folder("config") / "params.yaml").read_text())["/**"]["ros__parameters"]
    defaults = {field.name: field.default for field in dataclasses.fields(NodeSettings)}
    assert documented == defaults


def test_every_parameter_is_described():
    for field in dataclasses.fields(NodeSettings):
        assert len(field.metadata["description"]) > 20, field.name
