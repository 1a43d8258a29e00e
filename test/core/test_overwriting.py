"""What may be replaced: only what is of the same kind, and only where it was asked for."""

import pytest

from panoocc_core.base.overwriting import why_other_kind, why_taken

KINDS = {
    ".rrd": b"RRF2\0\0\0\0",
    ".mp4": b"\0\0\0\x20ftypisom",
    ".gif": b"GIF89a",
    ".webp": b"RIFF\x24\0\0\0WEBPVP8 ",
    ".png": b"\x89PNG\r\n\x1a\n",
    ".svg": b"<?xml version",
    ".pdf": b"%PDF-1.4",
}


@pytest.mark.parametrize("ending", [*KINDS, ".MP4"])
def test_a_file_gives_way_to_its_own_kind_alone(tmp_path, ending):
    path = tmp_path / f"result{ending}"
    assert why_taken(path, False, why_other_kind) is None
    path.write_bytes(KINDS[ending.lower()])
    assert "exists already: choose another name, or replace it with --overwrite" in why_taken(
        path, False, why_other_kind
    )
    assert why_taken(path, True, why_other_kind) is None
    for other, head in {**KINDS, "sound": b"RIFF\x24\0\0\0WAVEfmt ", "empty": b""}.items():
        path.write_bytes(head)
        assert (why_taken(path, True, why_other_kind) is None) == (other == ending.lower()), other
    path.unlink()
    path.mkdir()
    assert f"is not overwritten: it is no {ending.lower()} file" in why_taken(path, True, why_other_kind)


def test_a_link_that_leads_nowhere_is_free(tmp_path):
    link = tmp_path / "link.png"
    link.symlink_to(tmp_path / "none.png")
    assert why_taken(link, False, why_other_kind) is None
