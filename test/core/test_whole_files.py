"""Files that appear once they are whole: what is left after errors, full disks and in the middle of writing."""

from pathlib import Path

import pytest

from panoocc_core.whole_files import whole_file


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


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(28, "No space left on device"), KeyboardInterrupt()])
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
    with pytest.raises(OSError, match="No space"), whole_file(path) as part:
        part.write_text("new")
    assert path.read_text() == "former" and names(path) == ["result.json"]


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
