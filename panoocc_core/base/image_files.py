"""What the headers of image files say, read before anything is decoded or reserved."""

MAX_IMAGE_SIDE = 16384
_END_WITHIN = 4096  # some cameras and writers pad behind a JPEG's end marker


class ImageFileError(ValueError):
    """Bytes that are no whole image; the message begins with what they are."""


def jpeg_size_hw(data: bytes) -> tuple[int, int]:
    """Height and width in the frame header of a JPEG (ITU-T T.81, B.2.2), and that the file has its end.

    Raises:
        ImageFileError: it is no JPEG, damaged, larger than MAX_IMAGE_SIDE, or was cut off (decoders fill what is
            missing with grey and say nothing).
    """
    if not data.startswith(b"\xff\xd8"):
        raise ImageFileError(f"begins with {data[:4].hex(' ') or 'nothing'} and is no JPEG")
    size_hw = _frame_header(data)
    if b"\xff\xd9" not in data[-_END_WITHIN:]:
        raise ImageFileError(f"the JPEG is cut off after {len(data)} bytes: no end marker")
    check_size(*size_hw)
    return size_hw


def _frame_header(data: bytes) -> tuple[int, int]:
    """The segments before the frame header are skipped by their lengths."""
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[place + 5 : place + 7], "big"), int.from_bytes(
                data[place + 7 : place + 9], "big"
            )
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    raise ImageFileError("the JPEG has no frame header: it is cut off or damaged")


def check_size(height: int, width: int) -> None:
    """Raises ImageFileError unless an image has pixels, and no side is longer than MAX_IMAGE_SIDE."""
    if not 0 < min(height, width) <= max(height, width) <= MAX_IMAGE_SIDE:
        raise ImageFileError(f"image size {width}x{height} is outside 1..{MAX_IMAGE_SIDE}")
