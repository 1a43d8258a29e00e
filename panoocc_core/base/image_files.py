"""What the headers of image files say, held against their bytes before anything is decoded or reserved."""

import zlib
from collections.abc import Iterator
from typing import Literal

MAX_IMAGE_SIDE = 16384
JPEG_HEAD = b"\xff\xd8"
PNG_HEAD = b"\x89PNG\r\n\x1a\n"
TIFF_HEADS = (b"II*\0", b"MM\0*")
_END_WITHIN = 4096  # some cameras and writers pad behind a JPEG's end marker
_BLOCK = 8  # pixels; Huffman codes of a JPEG spend at least one bit on each block of 8x8
_ARITHMETIC = range(0xC9, 0xD0)  # frame markers of JPEGs that may spend less
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_TILE_WIDTH = 256, 257, 322  # tags
_TIFF_SHORT = 3  # the type of a number of two bytes
_DEFLATE_RATIO = 1032  # no byte of a deflate stream stands for more


class ImageFileError(ValueError):
    """Bytes that are no whole image; the message begins with what they are."""


def jpeg_size_hw(data: bytes) -> tuple[int, int]:
    """Height and width in the frame header of a JPEG (ITU-T T.81, B.2.2), and that the file has its end.

    Raises:
        ImageFileError: it is no JPEG, damaged, larger than MAX_IMAGE_SIDE or than its bytes can hold, or was cut off
            (decoders fill what is missing with grey and say nothing).
    """
    if not data.startswith(JPEG_HEAD):
        raise ImageFileError(f"begins with {data[:4].hex(' ') or 'nothing'} and is no JPEG")
    marker, height, width = _frame_header(data)
    if b"\xff\xd9" not in data[-_END_WITHIN:]:
        raise ImageFileError(f"the JPEG is cut off after {len(data)} bytes: no end marker")
    check_size(height, width)
    blocks = -(-height // _BLOCK) * -(-width // _BLOCK)
    if marker not in _ARITHMETIC and blocks > 8 * len(data):
        raise ImageFileError(f"the JPEG claims {width}x{height} pixels, which its {len(data)} bytes cannot hold")
    return height, width


def _frame_header(data: bytes) -> tuple[int, int, int]:
    """Marker, height and width; the segments before the frame header are skipped by their lengths."""
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xFF:  # fill byte
            place += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(data[i : i + 2], "big") for i in (place + 5, place + 7))
            return marker, height, width
        else:
            place += 2 + length
    raise ImageFileError("the JPEG has no frame header: it is cut off or damaged")


def png_size_hw(data: bytes) -> tuple[int, int]:
    """Height and width in the header of a PNG (ISO/IEC 15948), after a walk over its chunks.

    Every chunk lies within the data and has its checksum: decoders reserve what the length of a damaged one claims.

    Raises:
        ImageFileError: it is no PNG, damaged, larger than MAX_IMAGE_SIDE or than its bytes can hold, or was cut off.
    """
    if not data.startswith(PNG_HEAD):
        raise ImageFileError(f"begins with {data[:4].hex(' ') or 'nothing'} and is no PNG")
    header, pixel_bytes = b"", 0
    for place, (kind, body) in enumerate(_png_chunks(data)):
        if (place == 0) != (kind == b"IHDR"):
            raise ImageFileError("the PNG is damaged: its header is not its first chunk, and the only one")
        if kind == b"IHDR":
            header = bytes(body)
        elif kind == b"acTL":
            raise ImageFileError("the PNG is animated: a camera's image is one picture")
        elif kind == b"IDAT":
            pixel_bytes += len(body)
    if len(header) != 13 or header[9] not in _PNG_CHANNELS:
        raise ImageFileError("the PNG is damaged: its header cannot be read")
    width, height = (int.from_bytes(header[i : i + 4], "big") for i in (0, 4))
    check_size(height, width)
    row_bytes = -(-width * header[8] * _PNG_CHANNELS[header[9]] // 8)
    if row_bytes * height > pixel_bytes * _DEFLATE_RATIO:
        raise ImageFileError(
            f"the PNG claims {width}x{height} pixels, which its {pixel_bytes} bytes of pixels cannot hold"
        )
    return height, width


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Type and content of each chunk up to the last."""
    view, place, kind = memoryview(data), len(PNG_HEAD), b""
    while kind != b"IEND":
        length, kind = int.from_bytes(view[place : place + 4], "big"), bytes(view[place + 4 : place + 8])
        end = place + 8 + length
        if end + 4 > len(view):
            raise ImageFileError(
                f"the PNG is cut off or damaged: a chunk at byte {place} claims {length} bytes, "
                f"and {max(0, len(view) - place - 12)} are there"
            )
        if zlib.crc32(view[place + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise ImageFileError(f"the PNG is damaged: the checksum of the chunk at byte {place} is wrong")
        yield kind, view[place + 8 : end]
        place = end + 4


def tiff_size_hw(data: bytes) -> tuple[int, int]:
    """Height and width in the first directory of a TIFF 6.0 file.

    Raises:
        ImageFileError: it is no TIFF, damaged, larger than MAX_IMAGE_SIDE, tiled, or was cut off.
    """
    if not data.startswith(TIFF_HEADS):
        raise ImageFileError(f"begins with {data[:4].hex(' ') or 'nothing'} and is no TIFF")
    order: Literal["little", "big"] = "little" if data.startswith(TIFF_HEADS[0]) else "big"

    def number(place: int, size: int) -> int:
        return int.from_bytes(data[place : place + size], order)

    first = number(4, 4)
    end = first + 2 + 12 * number(first, 2)
    if first < 8 or end > len(data):
        raise ImageFileError(f"the TIFF is cut off after {len(data)} bytes, or damaged")
    entries = range(first + 2, end, 12)
    sides = {number(at, 2): number(at + 8, 2 if number(at + 2, 2) == _TIFF_SHORT else 4) for at in entries}
    if _TIFF_TILE_WIDTH in sides:
        raise ImageFileError("the TIFF consists of tiles, of which each may take any memory: write it in strips")
    height, width = sides.get(_TIFF_HEIGHT, 0), sides.get(_TIFF_WIDTH, 0)
    check_size(height, width)
    return height, width


def check_size(height: int, width: int) -> None:
    """Raises ImageFileError unless an image has pixels, and no side is longer than MAX_IMAGE_SIDE."""
    if not 0 < min(height, width) <= max(height, width) <= MAX_IMAGE_SIDE:
        raise ImageFileError(f"image size {width}x{height} is outside 1..{MAX_IMAGE_SIDE}")
