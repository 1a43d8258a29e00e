"""The overlay as a message: the picture of the core as a JPEG, in the width and quality that were asked for."""

from dataclasses import replace

import numpy as np
import pytest

from panoocc_core.pictures.overlay import rig_overlay
from panoocc_ros.frames.images import decode
from panoocc_ros.messages.types import new_message
from panoocc_ros.outputs.output import Result
from panoocc_ros.outputs.output_options import OutputOptions
from panoocc_ros.outputs.overlay_image import overlay_image
from panoocc_ros.ros.parameter_fields import SettingsError
from test.core.conftest import street_frame
from test.ros.test_convert import T0, occupancy, rclpy_like


def result(**options):
    options = {"overlay_width_px": 480, **options}
    return Result(occupancy(), street_frame(1.0), 3, "base_link", ("B", "C"), OutputOptions(**options))


@pytest.mark.parametrize("empty", [new_message, rclpy_like])
def test_the_message_holds_the_picture(empty):
    made = result(overlay_jpeg_quality=100)
    message = overlay_image(made, empty)
    assert message.format == "jpeg" and message.header.frame_id == "base_link"
    assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == T0
    picture = rig_overlay(made.frame, made.occupancy, width_px=480)
    decoded = decode(message)
    assert decoded.shape == picture.shape and picture.shape[1] == 480
    # The images are noise, of which JPEG halves the resolution of colours: brightness stays.
    brightness = np.array((0.299, 0.587, 0.114))
    assert np.abs(decoded @ brightness - picture @ brightness).mean() < 8


def test_quality_and_width_are_those_of_the_options():
    sizes = [len(overlay_image(result(overlay_jpeg_quality=quality), new_message).data) for quality in (20, 90)]
    assert sizes[0] < sizes[1] / 2
    assert decode(overlay_image(result(overlay_width_px=300), new_message)).shape[1] == 300
    for wrong in ({"overlay_width_px": 20}, {"overlay_jpeg_quality": 0}, {"overlay_max_rate_hz": -1.0}):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            result(**wrong)


def test_a_blank_camera_needs_no_picture():
    made = result()
    blank = replace(made.frame.cameras[2], is_blank=True)
    frame = replace(made.frame, cameras=(*made.frame.cameras[:2], blank, *made.frame.cameras[3:]))
    assert decode(overlay_image(replace(made, frame=frame), new_message)).shape[1] == 480
