"""Image messages that a device decodes and rectifies: the same pixels and cameras as the host makes of them."""

import gc
from contextlib import closing
from dataclasses import replace
from weakref import ref

import numpy as np
import pytest
import torch

from panoocc_core import model_config
from panoocc_core.base.reduction import Fit
from panoocc_core.cameras.image_bytes import ImageError
from panoocc_core.cameras.lens import calibration
from panoocc_core.cameras.rectified import upright_image
from panoocc_core.cuda.front_end import SOURCE, FrontEnd, uploads_to
from panoocc_core.cuda.staging import SideUploads
from panoocc_core.preprocess import cut_of, fit, network_pixels, normalised_and_padded, sent
from panoocc_ros.frames.assembler import FrameAssembler
from panoocc_ros.frames.picture_watch import MANY_SETS, PictureWatch
from panoocc_ros.frames.pictures import Picture, PictureForDevice
from panoocc_ros.messages.types import typestore
from test.core.host_kernels import COMPILER, HostKernels
from test.core.test_front_end import SIGNATURES
from test.ros.drive import EGO_FROM_OPTICAL, Drive
from test.ros.messages import camera_info, jpeg, picture, raw_image
from test.ros.test_images import CASES, HEIGHT, WIDTH

CPU = torch.device("cpu")
ON_DEVICE = ["rgb8", "8UC3", "bgra8", "mono8", "nv12", "nv21", "yuv422", "yuyv", "bayer_rggb8", "bayer_gbrg8"]
BY_HOST = ["bgr16", "i420", "jpeg"]
# Smaller than the test's pictures, so that these are reduced, in 8 bits and in float.
DIRECT, STEPWISE = (replace(model_config(name).images, height=10, width=24) for name in ("nano", "pano_small_4f"))
ROLLED = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@pytest.fixture(scope="module")
def front(tmp_path_factory) -> FrontEnd:
    if COMPILER is None:
        pytest.skip("no g++")
    return FrontEnd(CPU, HostKernels(SOURCE, SIGNATURES, tmp_path_factory.mktemp("kernels")))


def message_of(encoding: str):
    if encoding == "jpeg":
        return jpeg(0, "front", picture(7))
    data, per_pixel, *_ = CASES[encoding]
    return raw_image(encoding, data, HEIGHT, WIDTH, WIDTH * per_pixel)


def for_device(message) -> PictureForDevice:
    return PictureForDevice(message, SideUploads(CPU))


@pytest.mark.parametrize("config", [DIRECT, STEPWISE], ids=["direct", "stepwise"])
@pytest.mark.parametrize("distortion", [(), (-0.3, 0.1, 0.0, 0.0)], ids=["plain", "distorted"])
@pytest.mark.parametrize("encoding", ON_DEVICE + BY_HOST)
def test_the_network_gets_what_the_host_would_give_it(front, encoding, distortion, config):
    """Of an upright camera, also undistorted to another size, and of one that is mounted on its side."""
    for turn, undistorts_to in ((np.eye(3), None), (np.eye(3), (12, 26)), (ROLLED, None)):

        def size(size_hw, undistorted_hw=undistorts_to):
            return Fit(fit(size_hw, config).reduction, undistorted_hw)

        calibrated = calibration(camera_info((HEIGHT, WIDTH), distortion=distortion), False, size)
        mount = np.eye(4)
        mount[:3, :3] = EGO_FROM_OPTICAL @ turn
        host, device = (
            upright_image("FRONT", made, calibrated, mount, 0, np.eye(4))[0]
            for made in (
                Picture(message_of(encoding)).pixels(calibrated),
                for_device(message_of(encoding)).sent(calibrated),
            )
        )
        assert device.size_hw == host.size_hw
        assert np.array_equal(device.intrinsics, host.intrinsics)
        assert np.array_equal(device.ego_from_camera, host.ego_from_camera)
        assert torch.equal(device.rgb(), host.rgb())
        got = front.prepare([sent(device)], [cut_of(device.size_hw, config)], config)
        want = normalised_and_padded(network_pixels([host.rgb()], config), config)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "fields, says",
    [
        (("nv12", np.zeros((HEIGHT, WIDTH)), HEIGHT, WIDTH, WIDTH), "needs"),
        (("rgb8", np.zeros((HEIGHT, WIDTH, 3)), HEIGHT, WIDTH, WIDTH), "step"),
        (("rgb8", np.zeros((HEIGHT, WIDTH + 2, 3)), HEIGHT, WIDTH + 2, 3 * WIDTH + 6), "its CameraInfo is for"),
    ],
)
def test_damaged_messages_are_refused_as_by_the_host(fields, says):
    encoding, data, *sizes = fields
    message = raw_image(encoding, data.astype(np.uint8), *sizes)
    calibrated = calibration(camera_info((HEIGHT, WIDTH)), False)
    for make in (Picture(message).pixels, for_device(message).sent):
        with pytest.raises(ImageError, match=says):
            make(calibrated)


@pytest.mark.parametrize("encoding, dark", [("nv12", 16), ("yuyv", 16), ("bayer_rggb8", 3), ("rgb8", 3)])
def test_covered_lenses_are_seen_without_decoding(encoding, dark):
    data, per_pixel, *_ = CASES[encoding]
    black = np.full_like(data, dark)
    if encoding == "yuyv":
        black[:, :, 1] = 128
    watch, calibrated = PictureWatch(), calibration(camera_info((HEIGHT, WIDTH)), False)
    for number in range(MANY_SETS):
        for name, pixels in (("COVERED", black), ("SEES", data)):
            message = raw_image(encoding, pixels, HEIGHT, WIDTH, WIDTH * per_pixel)
            watch.look(name, number, for_device(message).glimpse(calibrated), np.eye(4))
    assert set(watch.findings()) == {"COVERED"} and "black" in watch.findings()["COVERED"]


def test_a_set_becomes_the_same_frame_either_way():
    """Through the assembler, with pictures decoded ahead."""
    drive, frames = Drive(), []
    for uploads in (None, SideUploads(CPU)):
        with closing(FrameAssembler(drive.rig, config=model_config("nano"), uploads=uploads)) as assembler:
            for raw in [drive.static(), *drive.infos(), *drive.whole_set(0), *drive.poses(1)]:
                message = typestore().deserialize_cdr(raw.data, raw.type)
                camera = next((one for one in drive.rig.cameras if raw.topic in (one.topic, one.info_topic)), None)
                if camera is None:
                    assembler.on_transforms(message, raw.topic == "/tf_static")
                elif raw.topic == camera.info_topic:
                    assembler.on_camera_info(camera.name, message)
                else:
                    assembler.on_image(camera.name, message, raw.stamp_ns)
            ready = assembler.poll(drive.stamp_ns(1))
            assert ready is not None
            frames.append(assembler.frame(ready))
    for host, device in zip(*(frame.cameras for frame in frames), strict=True):
        assert isinstance(host.image, torch.Tensor) and not isinstance(device.image, torch.Tensor)
        assert torch.equal(host.rgb(), device.rgb()) and np.array_equal(host.intrinsics, device.intrinsics)


@pytest.mark.parametrize("make", [Picture, for_device], ids=["host", "device"])
def test_a_picture_goes_with_its_last_holder(make):
    """Not with the collector of cycles: until that comes, pixels of many sets would pile up."""
    calibrated = calibration(camera_info((HEIGHT, WIDTH)), False)
    gc.disable()
    try:
        held = make(message_of("rgb8"))
        held.make(calibrated)
        if isinstance(held, PictureForDevice):
            assert torch.equal(held.sent(calibrated).on_host(0), torch.from_numpy(held.pixels(calibrated)))
        seen = ref(held)
        del held
        assert seen() is None
    finally:
        gc.enable()


def test_on_a_cpu_the_host_prepares_images():
    assert uploads_to(CPU) is None
