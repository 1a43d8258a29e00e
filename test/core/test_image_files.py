"""Headers of JPEGs and PNGs: read as decoders read them, refused before anything is reserved."""

import random
import resource
import zlib

import cv2
import numpy as np
import pytest

from panoocc_core.base.image_files import (
    MAX_IMAGE_SIDE,
    ImageFileError,
    check_size,
    jpeg_size_hw,
    png_size_hw,
    tiff_size_hw,
)


def jpeg(height, width, *options):
    return cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8), list(options))[1].tobytes()


def png(pixels, *options):
    return cv2.imencode(".png", pixels, list(options))[1].tobytes()


def chunk(kind, body):
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


@pytest.mark.parametrize("size", [(1, 1), (37, 64), (200, 3)])
@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)])
def test_the_size_is_that_of_the_decoded_image(size, options):
    assert jpeg_size_hw(jpeg(*size, *options)) == size


def test_what_stands_before_the_frame_header_and_behind_the_end_is_skipped():
    data = jpeg(20, 30)
    note = b"\xff\xfe" + (2 + 4).to_bytes(2, "big") + b"\xff\xc0ab"  # a comment that looks like a frame header
    assert jpeg_size_hw(data[:2] + b"\xff\xff" + note + data[2:] + bytes(1000)) == (20, 30)


def test_every_cut_is_refused():
    data = jpeg(20, 30)
    for length in range(0, len(data) - 1, 7):
        with pytest.raises(ImageFileError, match="no JPEG|no frame header|cut off"):
            jpeg_size_hw(data[:length])


def test_giants_and_nothing_are_refused():
    data = jpeg(20, 30)
    giant = data.replace((20).to_bytes(2, "big") + (30).to_bytes(2, "big"), b"\xff\x00\xff\x00", 1)
    with pytest.raises(ImageFileError, match="65280x65280 is outside 1..16384"):
        jpeg_size_hw(giant)
    for size in ((0, 5), (5, 0), (5, 16385), (-1, 5)):
        with pytest.raises(ImageFileError, match="outside"):
            check_size(*size)


def test_a_jpeg_that_claims_more_than_its_bytes_can_hold_is_refused():
    data = jpeg(160, 200)
    claim = data.replace((160).to_bytes(2, "big") + (200).to_bytes(2, "big"), b"\x40\x00\x40\x00", 1)
    with pytest.raises(ImageFileError, match=r"claims 16384x16384 pixels, which its \d+ bytes cannot hold"):
        jpeg_size_hw(claim)
    for options in ((cv2.IMWRITE_JPEG_QUALITY, 0), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_OPTIMIZE, 1)):
        assert jpeg_size_hw(jpeg(4096, 4096, *options)) == (4096, 4096)  # one colour, as small as they get


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (37, 64), (200, 3, 3), (16, 16, 4), (3000, 2000, 3)])
def test_the_size_of_a_png_is_that_of_the_decoded_image(shape, kind):
    assert png_size_hw(png(np.zeros(shape, kind), cv2.IMWRITE_PNG_COMPRESSION, 9) + bytes(100)) == shape[:2]
    if len(shape) == 2 and kind is np.uint8:
        assert png_size_hw(png(np.zeros(shape, kind), cv2.IMWRITE_PNG_BILEVEL, 1)) == shape


def test_every_cut_and_every_damaged_byte_of_a_png_is_refused():
    data = png(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
    for length in range(len(data)):
        with pytest.raises(ImageFileError, match="no PNG|cut off|damaged"):
            png_size_hw(data[:length])
    draw = random.Random(0)
    for place in range(len(data)):
        with pytest.raises(ImageFileError, match="no PNG|cut off|damaged"):
            png_size_hw(data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1 :])


def test_a_png_whose_claims_are_false_is_refused_without_taking_memory():
    head, plain = b"\x89PNG\r\n\x1a\n", png(np.zeros((20, 30, 3), np.uint8))
    claim = (MAX_IMAGE_SIDE).to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0))
    pixels, end = chunk(b"IDAT", zlib.compress(bytes(2000))), chunk(b"IEND", b"")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data, reason in (
        (plain.replace(plain[33:37], b"\x7f\xff\xff\xf0", 1), "claims 2147483632 bytes"),
        (head + chunk(b"IHDR", claim) + pixels + end, "claims 16384x16384 pixels"),
        (head + chunk(b"IHDR", claim[:4] + b"\xff" + claim[5:]) + pixels + end, "outside 1..16384"),
        (head + chunk(b"IHDR", claim[:9]) + pixels + end, "header cannot be read"),
        (head + pixels + chunk(b"IHDR", claim) + end, "not its first chunk"),
        (head + chunk(b"IHDR", claim) * 2 + pixels + end, "not its first chunk"),
        (head + end, "not its first chunk"),
        (head, "cut off"),
    ):
        with pytest.raises(ImageFileError, match=reason):
            png_size_hw(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("kind", [3, 4])
def test_the_size_of_a_tiff_is_read_in_both_byte_orders(order, kind):
    size = 2 if kind == 3 else 4
    entries = [(256, 30), (257, 20)]
    data = (b"II*\0" if order == "little" else b"MM\0*") + (8).to_bytes(4, order) + len(entries).to_bytes(2, order)
    for tag, value in entries:
        data += tag.to_bytes(2, order) + kind.to_bytes(2, order) + (1).to_bytes(4, order)
        data += value.to_bytes(size, order) + bytes(4 - size)
    assert tiff_size_hw(data) == (20, 30)
    for cut in (3, 8, 10, len(data) - 1):
        with pytest.raises(ImageFileError, match="TIFF"):
            tiff_size_hw(data[:cut])
