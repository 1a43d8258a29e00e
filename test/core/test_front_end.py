"""The kernel that prepares images, on a CPU against what the host does, and compiled for the devices it is for."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from panoocc_core import model_config
from panoocc_core.base.reduction import Fit, reduced
from panoocc_core.base.sent_image import ENCODED_BYTES, SentImage, UndistortingMaps, sent_rgb
from panoocc_core.cameras.lens import LensInfo, calibration
from panoocc_core.cuda import front_end as module
from panoocc_core.cuda.front_end import SOURCE, FrontEnd
from panoocc_core.cuda.kernels import CudaError, kernels_on
from panoocc_core.preprocess import cut_of, network_input, network_pixels, normalised_and_padded

from .compiled_kernels import ARCHITECTURES, compiled
from .conftest import DEVICES, street_frame
from .host_kernels import COMPILER, HostKernels

CPU = torch.device("cpu")
SIGNATURES = {"prepare_images": "const Layout* layouts, const Camera* cameras, void* input"}
# One unit in the last place of 255: float32 sums of four products may come in another order.
TOLERANCE = 6e-5
DECODED = {  # by the host
    "rgb8": lambda raw: raw,
    "bgr8": lambda raw: raw[:, :, ::-1],
    "rgba8": lambda raw: raw[:, :, :3],
    "bgra8": lambda raw: raw[:, :, 2::-1],
    "mono8": lambda raw: raw.repeat(3, axis=2),
    "uyvy": lambda raw: cv2.cvtColor(raw, cv2.COLOR_YUV2RGB_UYVY),
    "yuyv": lambda raw: cv2.cvtColor(raw, cv2.COLOR_YUV2RGB_YUY2),
    "nv12": lambda raw: cv2.cvtColor(raw, cv2.COLOR_YUV2RGB_NV12),
    "nv21": lambda raw: cv2.cvtColor(raw, cv2.COLOR_YUV2RGB_NV21),
    "bayer_rggb8": lambda raw: cv2.cvtColor(raw, cv2.COLOR_BayerRGGB2RGB),
    "bayer_grbg8": lambda raw: cv2.cvtColor(raw, cv2.COLOR_BayerGRBG2RGB),
    "bayer_gbrg8": lambda raw: cv2.cvtColor(raw, cv2.COLOR_BayerGBRG2RGB),
    "bayer_bggr8": lambda raw: cv2.cvtColor(raw, cv2.COLOR_BayerBGGR2RGB),
}
# A plumb_bob that bends and a fisheye that sees beyond its picture: part of the undistorted one stays black.
LENSES = {"plumb_bob": (-0.31, 0.11, 0.002, -0.001, 0.0), "equidistant": (0.02, -0.01, 0.0, 0.0)}


@pytest.fixture(scope="module", params=DEVICES)
def front(request, tmp_path_factory) -> FrontEnd:
    """The kernel as g++ compiles it, and as CuPy does where there is a GPU."""
    if request.param == "cuda":
        return FrontEnd(torch.device(request.param))
    if COMPILER is None:
        pytest.skip("no g++")
    return FrontEnd(CPU, HostKernels(SOURCE, SIGNATURES, tmp_path_factory.mktemp("kernels")))


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


def image_of(random: np.random.Generator, height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def prepared(front: FrontEnd, images: list[SentImage], config, dtype=torch.float32) -> torch.Tensor:
    """By the kernel, into memory full of NaN."""
    height, width = config.padded_hw
    out = torch.full((len(images), 3, height, width), float("nan"), dtype=dtype, device=front.device)
    out = out.contiguous(memory_format=torch.channels_last)
    assert front.prepare(images, [cut_of(image.size_hw, config) for image in images], config, dtype, out) is out
    return out.cpu()


def by_host(images: list[torch.Tensor], config) -> torch.Tensor:
    return normalised_and_padded(network_pixels(images, config), config)


def small(name: str, height: int, width: int, **changes):
    """The image settings of a preset at a size of their own."""
    return replace(model_config(name).images, height=height, width=width, **changes)


@pytest.mark.parametrize(
    "size_hw, way, reduction",
    [
        ((40, 88), "crop", 1),
        ((47, 88), "crop", 1),
        ((41, 99), "eight_bits", 1),
        ((97, 203), "eight_bits", 2),
        ((180, 361), "eight_bits", 4),
        ((331, 717), "eight_bits", 8),
        ((17, 40), "eight_bits", 1),
    ],
)
def test_eight_bits_are_those_of_the_host(front, random, size_hw, way, reduction):
    config, image = small("nano", 40, 88), image_of(random, *size_hw)
    cut = cut_of(size_hw, config)
    assert (cut.way, cut.reduction) == (way, reduction)
    assert torch.equal(prepared(front, [sent_rgb(image)], config), by_host([image], config))


@pytest.mark.parametrize("name", ["pano_small_occ3d", "pano_small_4f"])
@pytest.mark.parametrize(
    "size_hw, way",
    [((53, 99), "crop"), ((59, 111), "bilinear"), ((103, 191), "bilinear"), ((40, 61), "bilinear")]
    + [((131, 241), "antialiased"), ((160, 299), "antialiased")],
)
def test_published_preparation_is_that_of_the_host(front, random, name, size_hw, way):
    config, image = small(name, 53, 99), image_of(random, *size_hw)  # padded by 11 rows and 29 columns
    assert cut_of(size_hw, config).way == way
    got, want = prepared(front, [sent_rgb(image)], config), by_host([image], config)
    torch.testing.assert_close(got, want, rtol=0, atol=TOLERANCE / min(config.std))
    assert not got[:, :, 53:].any() and not got[:, :, :, 99:].any()


def test_all_cameras_in_one_launch_each_in_its_own_way(front, random):
    config = small("pano_small_4f", 32, 64)
    images = [image_of(random, *size) for size in ((32, 64), (45, 66), (70, 150), (33, 64), (200, 131))]
    got, want = prepared(front, [sent_rgb(image) for image in images], config), by_host(images, config)
    torch.testing.assert_close(got, want, rtol=0, atol=TOLERANCE / min(config.std))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_lower_precision_is_float32_rounded(front, random, dtype):
    config, image = small("nano", 40, 88), image_of(random, 97, 203)
    assert torch.equal(prepared(front, [sent_rgb(image)], config, dtype), by_host([image], config).to(dtype))


@pytest.mark.parametrize("encoding", ENCODED_BYTES)
@pytest.mark.parametrize("padding", [0, 5])
def test_encodings_are_decoded_as_on_the_host(front, random, encoding, padding):
    """Full range, all phases of a mosaic's border, rows with and without padding; the network's size: nothing else."""
    config = small("nano", 38, 86, mean=(0, 0, 0), std=(1, 1, 1))
    rows, channels = 38 * 3 // 2 if encoding.startswith("nv") else 38, ENCODED_BYTES[encoding].pixel_bytes
    bytes_ = random.integers(0, 256, (rows, 86 * channels + padding), dtype=np.uint8)
    plain = np.ascontiguousarray(bytes_[:, : 86 * channels])
    raw = plain if encoding.startswith(("nv", "bayer")) else plain.reshape(rows, 86, channels)
    image = SentImage(torch.from_numpy(bytes_.reshape(-1)), encoding, (38, 86), bytes_.shape[1])
    want = torch.from_numpy(np.ascontiguousarray(DECODED[encoding](raw)))
    got = prepared(front, [image], config)[0, :, :38, :86].permute(1, 2, 0).to(torch.uint8)
    assert torch.equal(got, want)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("model", LENSES)
@pytest.mark.parametrize("name, fit", [("nano", Fit(2, (51, 90))), ("nano", Fit(4)), ("pano_small_4f", Fit())])
def test_a_picture_is_reduced_undistorted_and_turned_as_on_the_host(front, random, turns, model, name, fit):
    k = np.array([[80.0, 0, 101], [0, 85, 58], [0, 0, 1]])
    info = LensInfo(121, 203, model, np.array(LENSES[model]), k, np.eye(3), np.zeros((3, 4)))
    calibrated = calibration(info, False, lambda size_hw: fit)
    taken = random.integers(0, 256, (121, 203, 3), dtype=np.uint8)
    upright = np.rot90(calibrated.rectify(reduced(taken, fit.reduction)), turns)
    want = torch.from_numpy(np.ascontiguousarray(upright))
    image = SentImage(
        torch.from_numpy(taken.reshape(-1)), "rgb8", (121, 203), 609, fit.reduction, calibrated.maps, turns
    )
    assert image.size_hw == tuple(want.shape[:2])
    config = small(name, 40, 48)
    got = prepared(front, [image], config)
    torch.testing.assert_close(got, by_host([want], config), rtol=0, atol=TOLERANCE / min(config.std))


def test_maps_are_sent_once_and_forgotten_with_their_camera(front, random):
    config, k = small("nano", 40, 48), np.array([[80.0, 0, 50], [0, 80, 40], [0, 0, 1]])
    first, second = (
        UndistortingMaps(
            *cv2.initUndistortRectifyMap(k, np.array((bend, 0, 0, 0)), np.eye(3), k, (96, 80), cv2.CV_16SC2)
        )
        for bend in (-0.3, -0.2)
    )
    taken = image_of(random, 80, 96)
    sent = sent_rgb(taken)
    images = {maps: replace(sent, maps=maps) for maps in (first, second, None)}
    results = [prepared(front, [images[maps]], config) for maps in (first, second, first, None, first)]
    assert torch.equal(results[0], results[2]) and torch.equal(results[0], results[4])
    assert not torch.equal(results[0], results[1]) and not torch.equal(results[0], results[3])
    before = front._maps[0][1][0].data_ptr()
    prepared(front, [images[first]], config)
    assert front._maps[0][1][0].data_ptr() == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_frame_is_prepared_alike_on_the_host_and_the_device():
    for name in ("nano", "pano_small_4f"):
        config = model_config(name)
        config = replace(config, images=replace(config.images, height=64, width=128))
        frame = street_frame(1.0, size_hw=(190, 301))
        host, device = (network_input(frame, config, at) for at in (CPU, torch.device("cuda")))
        torch.testing.assert_close(device.images.cpu(), host.images, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"encoding": "nv24"}, "none that a device decodes"),
        ({"encoding": "nv12", "sent_hw": (3, 4)}, "must be even"),
        ({"encoding": "uyvy", "sent_hw": (4, 3)}, "must be even"),
        ({"encoding": "bayer_rggb8", "sent_hw": (2, 8)}, "too small"),
        ({"step": 11}, "step 11 is below 4 x 3"),
        ({"data": torch.zeros(47, dtype=torch.uint8)}, r"needs uint8 \[48\]"),
        ({"data": torch.zeros(48)}, "float32"),
    ],
)
def test_bytes_that_are_no_image_are_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        replace(SentImage(torch.zeros(48, dtype=torch.uint8), "rgb8", (4, 4), 12), **changes)


def test_an_image_for_the_device_alone_has_no_pixels_on_the_host():
    with pytest.raises(ValueError, match="the host has no pixels"):
        SentImage(torch.zeros(48, dtype=torch.uint8), "rgb8", (4, 4), 12).rgb()


def test_a_wrong_place_for_the_result_is_refused(front, random):
    config, image = small("nano", 40, 88), sent_rgb(image_of(random, 40, 88))
    out = torch.empty(1, 3, *config.padded_hw, device=front.device)
    with pytest.raises(ValueError, match="channels last"):
        front.prepare([image], [cut_of(image.size_hw, config)], config, out=out)


def test_without_cupy_the_host_says_so_once_and_torch_prepares(monkeypatch, caplog):
    monkeypatch.setattr(module, "has_cupy", lambda: False)
    module._is_wanted.cache_clear()
    try:
        assert module.front_end_on(torch.device("cuda", 0)) is None
        assert module.front_end_on(torch.device("cuda", 0)) is None
    finally:
        module._is_wanted.cache_clear()
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "CuPy is not installed" in caplog.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_driver_the_error_says_what_failed():
    pytest.importorskip("cupy")
    with pytest.raises(CudaError, match=r"front_end\.cu cannot be compiled for cuda:0 by CuPy"):
        kernels_on(torch.device("cuda", 0), SOURCE)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_kernel_compiles_without_spills(architecture):
    for kernel in compiled(SOURCE, architecture):
        assert kernel.stack_bytes == kernel.spill_bytes == 0, kernel
        assert kernel.registers <= 128, kernel  # two blocks of 256 threads on every multiprocessor
