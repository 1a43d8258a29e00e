"""The command line as a whole: one table of commands and of exit statuses, help without waiting, Ctrl-C at any time."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from argparse import ArgumentTypeError
from pathlib import Path

import pytest
import torch

from panoocc_ros.commands import eval as eval_command
from panoocc_ros.commands import run as run_command
from panoocc_ros.commands import train as train_command
from panoocc_ros.commands.cli import COMMANDS, main, parser
from panoocc_ros.commands.shared.failures import status_of
from panoocc_ros.node.settings import NodeSettings, camera_limits
from panoocc_ros.outputs.catalogue import ANNOUNCEMENTS, OUTPUTS
from panoocc_ros.ros.argument_types import number, whole_number
from panoocc_ros.ros.exit_codes import MEANINGS, NETWORK_FAILED

CLI = [sys.executable, "-m", "panoocc_ros.commands.cli"]
HEAVY = ("torch", "numpy", "cv2", "rosbags", "scipy")
NAMES_HEAVY = f"""
import sys
from panoocc_ros.commands.cli import main
try:
    main(["--help"])
finally:
    print(*[name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""


def test_the_list_of_commands_needs_no_heavy_library():
    done = subprocess.run([sys.executable, "-c", NAMES_HEAVY], capture_output=True, text=True, timeout=60, check=True)
    assert not done.stderr.strip()
    assert all(name in done.stdout for name in COMMANDS)


def help_of(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_its_exit_statuses(command, capsys):
    text = help_of(command, capsys)
    # "0 done; 2 an argument ...": every number is one of the table, with the table's words.
    statuses = " ".join(text[text.index("exit status:") :].split())
    told = re.findall(r"(?:: |; )(\d+) ", statuses)
    assert told[0] == "0" and told[-1] == "130"
    for code in told:
        assert f"{code} {MEANINGS[int(code)]}" in statuses
    if "--device" in text and command != "sim":  # rendered images are the same on every machine with cpu only
        assert "(default: auto)" in text
    lines = text[: text.index("exit status:")].split("\n")
    options_of = [line.split()[0] for line in lines if line.startswith("  --")]
    assert len(options_of) == len(set(options_of))


def test_rates_are_explained_once_and_acronyms_keep_their_letters(capsys):
    text = " ".join(help_of("run", capsys).split())
    assert text.count("at most this often") == 1 and "--markers-max-rate-hz X (default: 2.0)" in text
    assert "JPEG quality of ~/overlay" in text


@pytest.mark.parametrize(
    "environment, turns",
    [({}, "20000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "0")],
    ids=str,
)
def test_torch_s_threads_wait_briefly_unless_the_environment_says_how(environment, turns):
    """GCC's OpenMP tells what it has read when it is loaded, together with torch."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    told = {**inherited, **environment, "OMP_DISPLAY_ENV": "verbose"}
    done = subprocess.run([*CLI, "models"], env=told, capture_output=True, text=True, timeout=60, check=True)
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("this torch has another OpenMP")
    assert f"GOMP_SPINCOUNT = '{turns}'" in done.stderr


@pytest.mark.parametrize(
    "module, work, words",
    [
        (eval_command, "_evaluate", ["eval"]),
        (train_command, "_train", ["train", "nano", "--out", "nowhere"]),
        (run_command, "_run", ["run", "drive.mcap", "--out", "nowhere"]),
    ],
)
def test_a_network_without_memory_ends_in_one_line(module, work, words, monkeypatch, capsys):
    def fail(_):
        raise torch.OutOfMemoryError("CUDA out of memory\nsecond line")

    monkeypatch.setattr(module, work, fail)
    assert main(words) == 5
    told = capsys.readouterr().err
    begin = f"panoocc {words[0]}: the network needs more memory than there is: take a smaller model or another device"
    assert told == f"{begin} (CUDA out of memory)\n"


def test_what_a_cpu_has_too_little_memory_for_is_told(capsys):
    assert status_of("image", lambda: torch.empty(1 << 50)) == NETWORK_FAILED
    told = capsys.readouterr().err
    assert "image: the network needs more memory than there is" in told and "4503599627370496 bytes" in told


def test_the_limits_of_cameras_are_options_of_run_as_they_are_parameters_of_the_node():
    words = ["run", "drive.mcap", "--out", "x", "--max-mount-shift-m", "0.5", "--max-focal-change", "0.1"]
    assert camera_limits(parser("run").parse_args(words)) == {"max_mount_shift_m": 0.5, "max_focal_change": 0.1}
    assert camera_limits(parser("run").parse_args(words[:4])) == {}
    with pytest.raises(SystemExit):
        parser("run").parse_args([*words[:4], "--max-mount-turn-deg", "181"])


def test_an_unknown_command_is_refused_with_those_that_there_are(capsys):
    for words in (["fly"], []):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2
    assert "choose from" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "three", "1.5", "nan", "99999999999", "-1", "0", "9" * 5000])
def test_numbers_outside_their_limits_are_refused_in_a_few_words(text, capsys):
    for words in (["bench", "--threads", text], ["sim", "--out", "x", "--workers", text], ["bench", "--frames", text]):
        if text == "99999999999" and "--threads" not in words:
            continue
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert f"argument {words[-2]}: " in told and len(told) < 200


def test_models_lists_the_family(tmp_path, capsys):
    path = tmp_path / "models.json"
    assert main(["models", "--json", str(path)]) == 0
    rows = {row["name"]: row for row in json.loads(path.read_text())}
    text, table = path.read_text().lower(), capsys.readouterr().out
    assert all(word in text for word in ("small", "base", "pretrain", "1f", "4f", "large", "cat", "nano", "waymo"))
    assert all(name in table and row["checkpoint_source"] in table for name, row in rows.items())
    assert rows["pano_small_occ3d"]["parameters_m"] == 67.81
    # 6.3 s at half a second, 50x50x16 voxels of 256 channels
    assert rows["pano_small_occ3d"]["history_bytes"] == 13 * 40_000 * 256 * 4
    assert rows["pano_small_1f"]["history_bytes"] == 0 and rows["pano_small_1f"]["history"] == "none"
    assert rows["pano_large_4f_hr"]["points_xyz"] == [512, 512, 160]
    unconfirmed = {name for name, row in rows.items() if row["confirmed"].startswith("nothing")}
    assert unconfirmed >= {"pano_base_4f_cat", "pano_xl_4f_cat"} and "pano_base_4f" not in unconfirmed


def test_numbers_are_what_they_say():
    assert whole_number(1, 5)("5") == 5 and number(0.0, 2.5)("2.5") == 2.5
    for text in ("nan", "inf", "-0.1", "2.6", "x"):
        with pytest.raises(ArgumentTypeError):
            number(0.0, 2.5)(text)
    with pytest.raises(ArgumentTypeError):
        number(0.0)("inf")


def test_topics_are_listed_for_people_and_programs(capsys, tmp_path):
    assert main(["topics", "--json", str(tmp_path / "topics.json")]) == 0
    text, rows = capsys.readouterr().out, json.loads((tmp_path / "topics.json").read_text())
    by_topic = {row["topic"]: row for row in rows}
    assert set(by_topic) == {one.topic for one in (*OUTPUTS, *ANNOUNCEMENTS)}
    assert all(row["topic"] in text and row["type"] in text and row["what"] for row in rows)
    parameters = {field.name for field in dataclasses.fields(NodeSettings)}
    assert {row["max_rate"] for row in rows} <= parameters | {""}
    assert by_topic["grid_2d"]["latched"] and by_topic["grid_2d"]["needs"] == ["free", "visible"]
    assert by_topic["markers"]["max_rate_hz"] == 2.0 and not by_topic["markers"]["in_bags"]
    assert main(["topics", "--json", str(tmp_path)]) != 0 and "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["-m", "panoocc_ros.commands.cli", "models"], ["-m", "panoocc_ros", "demo"]])
def test_ctrl_c_during_the_imports_ends_without_a_traceback(words):
    interrupt = "import os, signal, sys; sys.stderr.write('importing\\n'); os.kill(os.getpid(), signal.SIGINT)"
    # A library that is interrupted while it is imported; what comes after it must not be reached.
    code = f"""
import runpy, sys
class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            {interrupt}
sys.meta_path.insert(0, Interrupted())
sys.argv = {words[1:]!r}
runpy.run_module({words[1]!r}, run_name="__main__", alter_sys=False)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == "importing\n" and done.returncode == -signal.SIGINT


def test_ctrl_c_during_the_work_is_status_130():
    with subprocess.Popen([*CLI, "models"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        maps = Path(f"/proc/{process.pid}/maps")
        end_s = time.monotonic() + 60
        while time.monotonic() < end_s and "libtorch_python" not in maps.read_text():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert "Traceback" not in told and process.returncode in (130, -signal.SIGINT)
