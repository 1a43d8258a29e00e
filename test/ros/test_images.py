"""Every encoding gives the picture that was put in, and every damaged message a reason."""

import array

import cv2
import numpy as np
import pytest

from panoocc_ros.frames.images import ENCODINGS, ImageError, decode
from test.ros.messages import jpeg, picture, raw_image

RGB = picture(7)
HEIGHT, WIDTH = RGB.shape[:2]
GREY = cv2.cvtColor(RGB, cv2.COLOR_RGB2GRAY)
GREY_RGB = np.repeat(GREY[:, :, None], 3, axis=2)


def yuv422(order):
    """Packed 4:2:2 by hand (BT.601, limited range); chroma of the left pixel of each pair."""
    r, g, b = (RGB[:, :, k].astype(float) for k in range(3))
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    out = np.empty((HEIGHT, WIDTH, 2))
    luma, chroma = (1, 0) if order == "uyvy" else (0, 1)
    out[:, :, luma] = y
    out[:, 0::2, chroma], out[:, 1::2, chroma] = u[:, 0::2], v[:, 0::2]
    return np.clip(np.round(out), 0, 255).astype(np.uint8)


def nv(chroma):
    plane = cv2.cvtColor(RGB, cv2.COLOR_RGB2YUV_I420)
    u, v = plane[HEIGHT : HEIGHT * 5 // 4].reshape(-1), plane[HEIGHT * 5 // 4 :].reshape(-1)
    pair = (u, v) if chroma == "uv" else (v, u)
    return np.vstack([plane[:HEIGHT], np.stack(pair, axis=1).reshape(HEIGHT // 2, WIDTH)])


def bayer(pattern):
    out = np.empty((HEIGHT, WIDTH), np.uint8)
    for k, letter in enumerate(pattern):
        out[k // 2 :: 2, k % 2 :: 2] = RGB[k // 2 :: 2, k % 2 :: 2, "rgb".index(letter)]
    return out


RGBA = np.dstack([RGB, np.full((HEIGHT, WIDTH), 9, np.uint8)])
# encoding: bytes of the picture, bytes per pixel of a row, what comes out, largest mean difference
CASES = {
    "rgb8": (RGB, 3, RGB, 0),
    "bgr8": (RGB[:, :, ::-1], 3, RGB, 0),
    "8UC3": (RGB[:, :, ::-1], 3, RGB, 0),
    "rgba8": (RGBA, 4, RGB, 0),
    "bgra8": (RGBA[:, :, [2, 1, 0, 3]], 4, RGB, 0),
    "mono8": (GREY, 1, GREY_RGB, 0),
    "8UC1": (GREY, 1, GREY_RGB, 0),
    "mono16": ((GREY.astype("<u2") << 8 | 77).view(np.uint8), 2, GREY_RGB, 0),
    "16UC1": ((GREY.astype("<u2") << 8 | 77).view(np.uint8), 2, GREY_RGB, 0),
    "yuv422": (yuv422("uyvy"), 2, RGB, 4),
    "uyvy": (yuv422("uyvy"), 2, RGB, 4),
    "yuv422_yuy2": (yuv422("yuy2"), 2, RGB, 4),
    "yuyv": (yuv422("yuy2"), 2, RGB, 4),
    "nv12": (nv("uv"), 1, RGB, 6),
    "nv21": (nv("vu"), 1, RGB, 6),
    "bayer_rggb8": (bayer("rggb"), 1, RGB, 6),
    "bayer_bggr8": (bayer("bggr"), 1, RGB, 6),
    "bayer_gbrg8": (bayer("gbrg"), 1, RGB, 6),
    "bayer_grbg8": (bayer("grbg"), 1, RGB, 6),
}


def test_every_encoding_of_the_table_has_a_case():
    assert {name.lower() for name in CASES} == set(ENCODINGS)


@pytest.mark.parametrize("padding", [0, 13])
@pytest.mark.parametrize("encoding", CASES)
def test_encodings_with_and_without_row_padding(encoding, padding):
    data, per_pixel, expected, tolerance = CASES[encoding]
    rows = np.ascontiguousarray(data).reshape(-1, WIDTH * per_pixel)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    image = decode(raw_image(encoding, rows, HEIGHT, WIDTH, WIDTH * per_pixel + padding))
    assert image.shape == (HEIGHT, WIDTH, 3) and image.dtype == np.uint8
    assert image.flags.c_contiguous and image.flags.writeable
    assert np.abs(image.astype(int) - expected).mean() <= tolerance


def test_red_is_red_in_every_colour_encoding():
    # Guards against swapped channels, which a mean difference on a dull picture may miss.
    for encoding, (data, per_pixel, expected, _) in CASES.items():
        if expected is RGB:
            image = decode(raw_image(encoding, data, HEIGHT, WIDTH, WIDTH * per_pixel)).astype(float)
            difference = (image[:, :, 0] - image[:, :, 2]).reshape(-1)
            wanted = (RGB[:, :, 0].astype(float) - RGB[:, :, 2]).reshape(-1)
            assert np.corrcoef(difference, wanted)[0, 1] > 0.9, encoding


def test_byte_order_of_sixteen_bits_is_honoured():
    data = (GREY.astype(np.uint16) << 8 | 200).astype(">u2").view(np.uint8)
    np.testing.assert_array_equal(decode(raw_image("mono16", data, HEIGHT, WIDTH, 2 * WIDTH, is_bigendian=1)), GREY_RGB)


def test_data_may_be_the_array_that_rclpy_gives():
    message = raw_image("rgb8", RGB, HEIGHT, WIDTH, 3 * WIDTH)
    message.data = array.array("B", RGB.tobytes())
    np.testing.assert_array_equal(decode(message), RGB)


def test_the_padding_of_the_last_row_may_be_missing():
    rows = np.pad(RGB.reshape(HEIGHT, -1), ((0, 0), (0, 5))).reshape(-1)[:-5]
    np.testing.assert_array_equal(decode(raw_image("rgb8", rows, HEIGHT, WIDTH, 3 * WIDTH + 5)), RGB)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rgb8", RGB.reshape(-1)[:-1], HEIGHT, WIDTH, 3 * WIDTH), "needs 9216 bytes, not 9215"),
        (("rgb8", RGB, HEIGHT, WIDTH, 3 * WIDTH - 1), "step 191 is below 64 x 3 bytes"),
        (("rgb8", RGB, 0, WIDTH, 3 * WIDTH), "image size 64x0 is outside"),
        (("rgb8", RGB, 2**31, 2**31, 2**32 - 1), "is outside 1..16384"),
        (("rgb16", RGB, HEIGHT, WIDTH, 6 * WIDTH), "encoding 'rgb16' is not known; known are .*rgb8"),
        (("nv12", nv("uv"), HEIGHT - 1, WIDTH, WIDTH), "must be even"),
    ],
)
def test_bad_raw_images_are_refused_with_the_reason(arguments, message):
    with pytest.raises(ImageError, match=message):
        decode(raw_image(*arguments))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_compressed_images(suffix):
    image = decode(jpeg(0, "", RGB, suffix))
    assert np.abs(image.astype(int) - RGB).mean() <= (0 if suffix == ".png" else 3)


def damaged(change, suffix=".jpg"):
    message = jpeg(0, "", RGB, suffix)
    message.data = np.frombuffer(change(message.data.tobytes()), np.uint8)
    return message


@pytest.mark.parametrize(
    ("suffix", "change", "message"),
    [
        (".jpg", lambda data: b"", "no data"),
        (".jpg", lambda data: data[: len(data) // 2], "cut off"),
        (".jpg", lambda data: b"\xff\xd8" + b"\x00" * 500 + b"\xff\xd9", "no frame header"),
        (".jpg", lambda data: b"hello, I am no picture", "neither JPEG nor PNG"),
        (".png", lambda data: data[: len(data) // 2], "PNG is cut off"),
        (".png", lambda data: data[:10], "PNG is cut off"),
        (".png", lambda data: data[:60] + bytes(len(data) - 100) + data[-40:], "damaged JPEG or PNG"),
        (".png", lambda data: data[:16] + (60000).to_bytes(4, "big") * 2 + data[24:], "60000x60000 is outside"),
    ],
)
def test_damaged_compressed_images_are_refused_with_the_reason(suffix, change, message):
    with pytest.raises(ImageError, match=message):
        decode(damaged(change, suffix))


def test_a_jpeg_whose_header_promises_a_giant_is_refused_before_memory_is_taken():
    data = jpeg(0, "", RGB).data.tobytes()
    place = data.index(b"\xff\xc0") + 5
    message = damaged(lambda whole: whole[:place] + b"\xff\xff\xff\xff" + whole[place + 4 :])
    with pytest.raises(ImageError, match="65535x65535 is outside"):
        decode(message)


def test_depth_is_not_colour():
    message = jpeg(0, "", RGB)
    message.format = "16UC1; compressedDepth png"
    with pytest.raises(ImageError, match="holds depth"):
        decode(message)


def test_a_padded_end_and_any_format_string_are_accepted():
    message = damaged(lambda data: data + bytes(100))
    message.format = "bgr8; jpeg compressed bgr8"
    assert decode(message).shape == RGB.shape
