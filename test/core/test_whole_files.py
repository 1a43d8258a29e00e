"""Files that appear once they are whole: what is left after errors, full disks and in the middle of writing."""

import errno
import os
from pathlib import Path

import pytest

from panoocc_core.base.whole_files import whole_file


@pytest.fixture
def path(tmp_path):
    return tmp_path / "result.json"


def names(path):
    return sorted(one.name for one in path.parent.iterdir())


@pytest.mark.parametrize("former", [None, "former"])
def test_it_appears_when_it_is_whole(path, former):
    if former is not None:
        path.write_text(former)
    with whole_file(path) as part:
        part.write_text("new")
        assert part.name == "result.json.part" and (path.read_text() if path.exists() else None) == former
    assert path.read_text() == "new" and names(path) == ["result.json"]


@pytest.mark.parametrize(
    "error",
    [ValueError("a bug"), OSError("no number"), OSError(28, "No space left on device", "other"), KeyboardInterrupt()],
)
def test_after_an_error_the_former_file_is_there_and_nothing_else(path, error):
    path.write_text("former")
    with pytest.raises(type(error)) as caught, whole_file(path) as part:
        part.write_text("half")
        raise error
    assert caught.value is error
    assert path.read_text() == "former" and names(path) == ["result.json"]


def test_an_error_before_anything_is_written_is_told_as_it_is(path):
    with pytest.raises(ValueError, match="a bug"), whole_file(path):
        raise ValueError("a bug")
    assert not names(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_an_error_and_leaves_the_former_file(path):
    path.write_text("former")
    (path.parent / "result.json.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device: '.*result.json'"), whole_file(path) as part:
        part.write_text("new")
    assert path.read_text() == "former" and names(path) == ["result.json"]


def test_an_error_that_names_no_file_gets_the_name_of_this_one(path):
    with pytest.raises(PermissionError) as caught, whole_file(path):
        raise OSError(errno.EACCES, "Permission denied")
    assert str(caught.value) == f"[Errno 13] Permission denied: '{path}'" and not names(path)


def test_a_link_stays_and_what_it_leads_to_is_replaced(path, tmp_path):
    (tmp_path / "far").mkdir()
    path.symlink_to(Path("far", "real.json"))
    for text in ("first", "second"):  # the file is not there yet, and is there
        with whole_file(path) as part:
            part.write_text(text)
            assert part.parent == tmp_path / "far" and names(path) == ["far", "result.json"]
        assert path.is_symlink() and (tmp_path / "far" / "real.json").read_text() == text
    with pytest.raises(ValueError), whole_file(path, path.with_name("mine.part")) as part:
        part.write_text("third")
        raise ValueError
    assert path.read_text() == "second" and [one.name for one in (tmp_path / "far").iterdir()] == ["real.json"]


def test_a_pipe_is_written_and_not_replaced(path):
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with whole_file(path) as part:
            part.write_text("new")
        assert os.read(reader, 100) == b"new" and path.is_fifo() and names(path) == ["result.json"]
    finally:
        os.close(reader)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_device_behind_a_link_is_written_and_its_error_named(path):
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device: '.*result.json'"), whole_file(path) as part:
        part.write_text("new")
    assert path.is_char_device() and path.is_symlink() and names(path) == ["result.json"]


def test_what_a_killed_process_left_is_written_over(path):
    (path.parent / "result.json.part").write_text("half of a longer file")
    with whole_file(path) as part:
        part.write_text("new")
    assert path.read_text() == "new" and names(path) == ["result.json"]


def test_two_writers_with_names_of_their_own_do_not_meet(path):
    mine, other = (path.with_name(f"result.{i}.part") for i in (1, 2))
    with whole_file(path, mine) as first:
        first.write_text("first")
        with pytest.raises(ValueError), whole_file(path, other) as second:
            second.write_text("second")
            raise ValueError
        assert first == mine and first.read_text() == "first"
    assert path.read_text() == "first" and names(path) == ["result.json"]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "none" / "result.json") as part:
        part.write_text("new")


def test_a_folder_is_not_replaced(path):
    path.mkdir()
    with pytest.raises(OSError), whole_file(path) as part:
        part.write_text("new")
    assert path.is_dir() and names(path) == ["result.json"]
