"""Headers of JPEGs: read as decoders read them, refused before anything is reserved."""

import cv2
import numpy as np
import pytest

from panoocc_core.base.image_files import ImageFileError, check_size, jpeg_size_hw


def jpeg(height, width, *options):
    return cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8), list(options))[1].tobytes()


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
