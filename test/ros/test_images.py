"""Every encoding gives the picture that was put in, and every damaged message a reason."""

import array
import copy
import zlib

import cv2
import numpy as np
import pytest

from panoocc_core.base.reduction import REDUCTIONS, reduced
from panoocc_core.cameras.image_bytes import ImageError
from panoocc_ros.frames.images import ENCODINGS, decode
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


def sixteen_bits(pixels):
    return (np.ascontiguousarray(pixels).astype("<u2") << 8 | 77).view(np.uint8)


def nv24():
    """Chroma at full resolution, u and v by turns behind all of the luma."""
    y = yuv422("yuy2")[:, :, 0]
    r, g, b = (RGB[:, :, k].astype(float) for k in range(3))
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    chroma = np.clip(np.round(np.stack([u, v], axis=2)), 0, 255).astype(np.uint8)
    return np.vstack([y, chroma.reshape(2 * HEIGHT, WIDTH)])


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
    "mono16": (sixteen_bits(GREY), 2, GREY_RGB, 0),
    "rgb16": (sixteen_bits(RGB), 6, RGB, 0),
    "bgr16": (sixteen_bits(RGB[:, :, ::-1]), 6, RGB, 0),
    "rgba16": (sixteen_bits(RGBA), 8, RGB, 0),
    "bgra16": (sixteen_bits(RGBA[:, :, [2, 1, 0, 3]]), 8, RGB, 0),
    "8UC4": (RGBA[:, :, [2, 1, 0, 3]], 4, RGB, 0),
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
    **{f"bayer_{order}16": (sixteen_bits(bayer(order)), 2, RGB, 6) for order in ("rggb", "bggr", "gbrg", "grbg")},
    "nv24": (nv24(), 1, RGB, 3),
    "i420": (cv2.cvtColor(RGB, cv2.COLOR_RGB2YUV_I420), 1, RGB, 6),
    "yv12": (cv2.cvtColor(RGB, cv2.COLOR_RGB2YUV_YV12), 1, RGB, 6),
}
NO_PADDING = ("nv24", "i420", "yv12")


def test_every_encoding_of_the_table_has_a_case():
    assert {name.lower() for name in CASES} == set(ENCODINGS)


@pytest.mark.parametrize("padding", [0, 13])
@pytest.mark.parametrize("encoding", CASES)
def test_encodings_with_and_without_row_padding(encoding, padding):
    data, per_pixel, expected, tolerance = CASES[encoding]
    rows = np.ascontiguousarray(data).reshape(-1, WIDTH * per_pixel)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    if padding and encoding in NO_PADDING:
        with pytest.raises(ImageError, match=f"encoding {encoding}: step {WIDTH + 13} is not {WIDTH}"):
            decode(raw_image(encoding, rows, HEIGHT, WIDTH, WIDTH + padding))
        return
    image = decode(raw_image(encoding, rows, HEIGHT, WIDTH, WIDTH * per_pixel + padding))
    assert image.shape == (HEIGHT, WIDTH, 3) and image.dtype == np.uint8
    assert image.flags.c_contiguous and image.flags.writeable
    assert np.abs(image.astype(int) - expected).mean() <= tolerance


def test_the_table_agrees_with_cv_bridge():
    bridge, compared = pytest.importorskip("cv_bridge").CvBridge(), 0
    for encoding, (data, per_pixel, *_) in CASES.items():
        message = raw_image(encoding, data, HEIGHT, WIDTH, WIDTH * per_pixel)
        try:
            theirs = bridge.imgmsg_to_cv2(message, desired_encoding="rgb8")
        except Exception:  # which it lacks, or refuses to convert
            continue
        compared += 1
        assert np.abs(theirs.astype(int) - decode(message)).max() <= 1, encoding
    assert compared >= 10


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
        (("16UC1", RGB, HEIGHT, WIDTH, 2 * WIDTH), "16UC1 is depth, not colour.*mono16"),
        (("32FC1", RGB, HEIGHT, WIDTH, 4 * WIDTH), "32FC1 is depth, not colour"),
        (("nv12", nv("uv"), HEIGHT - 1, WIDTH, WIDTH), "must be even in both directions"),
        (("yuv422_yuy2", RGB, HEIGHT, WIDTH - 1, 2 * WIDTH), "63x48 must be even in width"),
        (("uyvy", RGB, HEIGHT, 1, 2), "must be even in width"),
    ],
)
def test_bad_raw_images_are_refused_with_the_reason(arguments, message):
    with pytest.raises(ImageError, match=message):
        decode(raw_image(*arguments))


def test_an_encoding_that_nobody_knows_is_refused():
    with pytest.raises(ImageError, match="encoding 'rgb48'"):  # with cv_bridge's words where that is installed
        decode(raw_image("rgb48", RGB, HEIGHT, WIDTH, 18 * WIDTH))


def test_whatever_a_decoder_throws_is_an_image_error(monkeypatch):
    def broken(*_):
        raise cv2.error("OpenCV(4.13.0) color.cpp:199: error:\n (-215:Assertion failed) in 'cvtColor'")

    monkeypatch.setattr(cv2, "cvtColor", broken)
    for message in (raw_image("bgr8", RGB, HEIGHT, WIDTH, 3 * WIDTH), jpeg(0, "", RGB, ".png")):
        with pytest.raises(ImageError, match="cannot be decoded: .*error: .-215"):
            decode(message)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff"])
def test_compressed_images(suffix):
    image = decode(jpeg(0, "", RGB, suffix))
    assert np.abs(image.astype(int) - RGB).mean() <= (3 if suffix == ".jpg" else 0)


def damaged(change, suffix=".jpg"):
    message = jpeg(0, "", RGB, suffix)
    message.data = np.frombuffer(change(message.data.tobytes()), np.uint8)
    return message


def chunk(kind, data):
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def tiled(data):
    """The TIFF `data` whose tag RowsPerStrip has become TileWidth."""
    first = int.from_bytes(data[4:8], "little")
    place = data.index((278).to_bytes(2, "little"), first)
    return data[:place] + (322).to_bytes(2, "little") + data[place + 2 :]


def giant(data, side):
    """The PNG `data` with a header that claims more."""
    return data[:8] + chunk(b"IHDR", side.to_bytes(4, "big") * 2 + data[24:29]) + data[33:]


@pytest.mark.parametrize(
    ("suffix", "change", "message"),
    [
        (".jpg", lambda data: b"", "no data"),
        (".jpg", lambda data: data[: len(data) // 2], "cut off"),
        (".jpg", lambda data: b"\xff\xd8" + b"\x00" * 500 + b"\xff\xd9", "no frame header"),
        (".jpg", lambda data: b"hello, I am no picture", "neither JPEG, PNG nor TIFF"),
        (".png", lambda data: data[: len(data) // 2], "PNG is cut off"),
        (".png", lambda data: data[:10], "PNG is cut off"),
        (".png", lambda data: data[:60] + bytes(len(data) - 100) + data[-40:], "damaged"),
        (".png", lambda data: giant(data, 60000), "60000x60000 is outside"),
        (
            ".png",
            lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
            "checksum of the chunk at byte 33 is wrong|cut off",
        ),
        (".png", lambda data: data[:33] + b"\x7f" + data[34:], "damaged: a chunk at byte 33 claims 21.* bytes"),
        (".png", lambda data: data[:8] + data[33:], "header is not its first chunk"),
        (".png", lambda data: data[:33] + chunk(b"acTL", bytes(8)) + data[33:], "animated"),
        (".png", lambda data: data[:33] + chunk(b"IDAT", bytes(500)) + data[-12:], "damaged, or of an unknown kind"),
        (".tiff", lambda data: data[: len(data) // 2], "TIFF is cut off"),
        (".tiff", lambda data: tiled(data), "consists of tiles"),
        (".tiff", lambda data: data[:4] + b"\xff\xff\xff\x7f" + data[8:], "TIFF is cut off"),
        (
            ".jpg",
            lambda data: data.replace(b"\xff\xda", data[data.index(b"\xff\xc0") :][:19] + b"\xff\xda", 1),
            "damaged",
        ),
    ],
)
@pytest.mark.parametrize("reduction", [1, 4])
def test_damaged_compressed_images_are_refused_with_the_reason(suffix, change, message, reduction):
    with pytest.raises(ImageError, match=message):
        decode(damaged(change, suffix), reduction=reduction)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff", "raw"])
@pytest.mark.parametrize("size_hw", [(90, 160), (91, 157), (1, 1)])
def test_a_reduced_image_has_the_mean_of_its_squares(suffix, size_hw):
    rgb = picture(0, size_hw)
    raw = raw_image("rgb8", rgb, *size_hw, 3 * size_hw[1])
    message = raw if suffix == "raw" else jpeg(0, "", rgb, suffix)
    for times in REDUCTIONS:
        padded = np.pad(rgb.astype(float), ((0, -size_hw[0] % times), (0, -size_hw[1] % times), (0, 0)), "edge")
        rows, columns = padded.shape[0] // times, padded.shape[1] // times
        expected = padded.reshape(rows, times, columns, times, 3).mean((1, 3))
        small = decode(message, size_hw, reduction=times)
        assert small.shape == (rows, columns, 3) and small.flags.c_contiguous
        off = np.abs(small - expected)
        assert off.mean() < (4 if suffix == ".jpg" else 1) and off.max() < (25 if suffix == ".jpg" else 1)


def test_a_reduced_mosaic_has_its_colours():
    data = cv2.imencode(".png", bayer("rggb"))[1].reshape(-1)
    message = jpeg(0, "", RGB)
    message.data, message.format = data, "bayer_rggb8; png compressed "
    np.testing.assert_array_equal(decode(message, reduction=2), reduced(decode(message), 2))


def test_a_jpeg_whose_header_promises_a_giant_is_refused_before_memory_is_taken():
    data = jpeg(0, "", RGB).data.tobytes()
    place = data.index(b"\xff\xc0") + 5
    message = damaged(lambda whole: whole[:place] + b"\xff\xff\xff\xff" + whole[place + 4 :])
    with pytest.raises(ImageError, match="65535x65535 is outside"):
        decode(message)


def test_depth_is_not_colour():
    message = jpeg(0, "", RGB)
    for words in ("16UC1; compressedDepth png", "16UC1; png compressed ", "32FC1; tiff compressed "):
        message.format = words
        with pytest.raises(ImageError, match="is depth, not colour"):
            decode(message)


def test_the_claimed_size_is_held_against_the_calibration_before_anything_is_decoded(monkeypatch):
    for module in ("simplejpeg.decode_jpeg", "cv2.imdecode"):
        monkeypatch.setattr(module, lambda *_, **__: pytest.fail("it was decoded"))
    data = jpeg(0, "", RGB).data.tobytes()
    place = data.index(b"\xff\xc0") + 5
    large = (640).to_bytes(2, "big") * 2
    claims = {".jpg": lambda whole: whole[:place] + large + whole[place + 4 :], ".png": lambda whole: giant(whole, 640)}
    for suffix, change in claims.items():
        with pytest.raises(ImageError, match="image is 640x640, its CameraInfo is for 64x48"):
            decode(damaged(change, suffix), (HEIGHT, WIDTH))
        with pytest.raises(ImageError, match="640x640: more than 400000 pixels are not decoded"):
            decode(damaged(change, suffix), max_pixels=400_000)
    with pytest.raises(ImageError, match="16384x16384: more than 67108864 pixels"):
        decode(raw_image("rgb8", RGB, 16384, 16384, 3 * 16384))
    for message in (jpeg(0, "", RGB, ".tiff"), raw_image("rgb8", RGB, HEIGHT, WIDTH, 3 * WIDTH)):
        with pytest.raises(ImageError, match="image is 64x48, its CameraInfo is for 48x64"):
            decode(message, (WIDTH, HEIGHT))


@pytest.mark.parametrize("count", [1, 7, 15])
def test_a_few_bytes_behind_the_pixels_are_no_damage(count):
    """Some USB cameras leave them before the end marker."""
    rest = np.random.default_rng(0).integers(0, 255, count, dtype=np.uint8).tobytes()
    image = decode(damaged(lambda data: data[:-2] + rest + data[-2:]))
    np.testing.assert_array_equal(image, decode(jpeg(0, "", RGB)))
    with pytest.raises(ImageError, match="extraneous bytes"):
        decode(damaged(lambda data: data[:-2] + 20 * rest + bytes([1] * 30) + data[-2:]))


def test_a_jpeg_that_its_decoder_warns_of_is_refused():
    whole = jpeg(0, "", picture(3, (200, 300))).data.tobytes()
    begin, random = whole.index(b"\xff\xda") + 14, np.random.default_rng(0)
    refused = 0
    for times in (1, 4) * 20:
        data = bytearray(whole)
        for place in random.integers(begin, len(data) - 2, 5):
            data[place] ^= int(random.integers(1, 256))
        try:
            decode(damaged(lambda _, data=data: bytes(data)), reduction=times)
        except ImageError as error:
            assert "damaged" in str(error)
            refused += 1
    assert refused >= 20  # the others decode to something else without a contradiction


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff"])
@pytest.mark.parametrize("order", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_mosaic_in_a_file_becomes_colours(order, suffix):
    """image_transport writes the encoding before compression in front of the semicolon."""
    message = compressed_mosaic(bayer(order), suffix)
    for words in (f"bayer_{order}8; jpeg compressed bayer_{order}8", f"bayer_{order}16; png compressed "):
        message.format = words
        assert np.abs(decode(message).astype(int) - RGB).mean() <= 8
    message.format = "mono8; jpeg compressed mono8"
    assert (np.ptp(decode(message), axis=2) == 0).all()
    colours = jpeg(0, "", RGB, suffix)  # of newer versions, which make colours of a mosaic and keep its name
    colours.format = f"bayer_{order}8; jpeg compressed bgr8"
    assert np.abs(decode(colours).astype(int) - RGB).mean() <= 3


def compressed_mosaic(plane, suffix):
    message = jpeg(0, "", RGB)
    message.data = cv2.imencode(suffix, plane, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].reshape(-1)
    return message


def test_video_is_refused_with_the_words_of_the_message():
    message = damaged(lambda _: b"\0\0\0\1\x67" + bytes(100))
    message.format = "h264"
    with pytest.raises(ImageError, match="'h264'.*video is not decoded"):
        decode(message)


def test_nothing_but_image_errors_comes_out_of_mutated_images():
    random = np.random.default_rng(1)
    messages = [jpeg(0, "", RGB, suffix) for suffix in (".jpg", ".png", ".tiff")]
    messages += [raw_image(name, data, HEIGHT, WIDTH, WIDTH * per) for name, (data, per, *_) in CASES.items()]
    decoded = 0
    for _ in range(1500):
        message = copy.copy(messages[random.integers(len(messages))])
        data = bytearray(bytes(message.data))
        for place in random.integers(len(data), size=random.integers(1, 6)):
            data[min(place, int(random.integers(1, len(data))))] = int(random.integers(256))
        message.data = np.frombuffer(bytes(data[: random.integers(len(data) // 2, 2 * len(data))]), np.uint8)
        if hasattr(message, "encoding"):
            message.encoding = list(CASES)[random.integers(len(CASES))]
            for name in ("height", "width", "step"):
                if random.random() < 0.3:
                    setattr(message, name, int(random.choice([0, 1, 2, 3, 47, 63, 65, 2**31, 2**32 - 1])))
        try:
            image = decode(message)
        except ImageError:
            continue
        decoded += 1
        assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
    assert decoded > 50


def test_a_padded_end_and_any_format_string_are_accepted():
    message = damaged(lambda data: data + bytes(100))
    message.format = "bgr8; jpeg compressed bgr8"
    assert decode(message).shape == RGB.shape
