"""The systemd unit and the image: what they run is run, what they name is there."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from panoocc_ros.bags.saved_set import default_folder
from panoocc_ros.ros.exit_codes import BAD_INPUT

ROOT = Path(__file__).parents[1]
SYSTEMD = ROOT / "config" / "systemd"
UNIT, DOCKERFILE = SYSTEMD / "panoocc.service", ROOT / "docker" / "Dockerfile"


def service() -> configparser.SectionProxy:
    """The section [Service] of the unit."""
    unit = configparser.RawConfigParser(strict=False)  # Environment= may be there twice
    unit.optionxform = str  # systemd's keys have capitals
    unit.read(UNIT)
    return unit["Service"]


def environment() -> dict[str, str]:
    """What the environment file of the unit gives."""
    lines = [line for line in (SYSTEMD / "panoocc.env").read_text().splitlines() if line and line[0] != "#"]
    return dict(line.split("=", 1) for line in lines)


def command(variables: dict[str, str]) -> list[str]:
    """The words of ExecStart as systemd makes them: a variable that is a word of its own becomes several."""
    words = []
    for word in shlex.split(service()["ExecStart"]):
        name = re.fullmatch(r"\$(\w+)", word)
        words += shlex.split(variables[name[1]]) if name else [word.replace("$$", "$")]
    return words


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit():
    done = subprocess.run(
        ["systemd-analyze", "verify", str(UNIT)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and "panoocc" not in done.stderr, done.stderr


@pytest.mark.parametrize("code", [0, 2, 3])
def test_the_unit_starts_the_node_in_its_environment_and_hears_its_exit_code(tmp_path, code):
    variables = environment() | {"PANOOCC_VENV": str(tmp_path / "venv"), "PANOOCC_WORKSPACE": str(tmp_path / "my ws")}
    installed = tmp_path / "my ws" / "install"
    for file, text in (
        (tmp_path / "venv" / "bin" / "activate", "export ORDER=venv\n"),
        (installed / "setup.bash", f'export ORDER=$ORDER,workspace\nros2() {{ echo "{installed}"; }}\n'),
        (installed / "lib/panoocc/occupancy_node", f'#!/bin/sh\nprintf "%s\\n" "$ORDER" "$@"\nexit {code}\n'),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
    done = subprocess.run(
        command(variables), env=os.environ | variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines() == ["venv,workspace", *variables["PANOOCC_ARGUMENTS"].split()]


def test_the_unit_does_not_start_anew_what_no_restart_mends():
    assert service()["Restart"] == "on-failure" and int(service()["RestartPreventExitStatus"]) == BAD_INPUT


def test_the_environment_names_files_of_the_package():
    share = "/install/panoocc/share/panoocc/"
    named = [value.partition(share)[2] for value in environment().values() if share in value]
    assert len(named) == 3 and all((ROOT / path).is_file() for path in named)
    assert (ROOT / "config" / Path(environment()["PANOOCC_ARGUMENTS"].split()[-1]).name).is_file()


def test_the_image_copies_what_colcon_installs_and_pins_pytorch():
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert all((ROOT / path).exists() for path in kept)
    folders = re.findall(r"ament_python_install_package\((\w+)\)", (ROOT / "CMakeLists.txt").read_text())
    assert {"CMakeLists.txt", "package.xml", "config", "launch", "scripts", "msg", "include", *folders} <= kept
    pattern = re.findall(r"grep --only-matching '([^']+)'", DOCKERFILE.read_text())
    requirements = (ROOT / "requirements" / "ros-system.txt").read_text()
    assert len(pattern) == 2 and all(len(re.findall(one, requirements, re.MULTILINE)) == 1 for one in pattern)


def test_services_of_the_compose_file_are_the_stages_of_the_image():
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    stages = set(re.findall(r"^FROM .* AS torch-(\w+)$", DOCKERFILE.read_text(), re.MULTILINE))
    assert {one["build"]["args"]["TORCH"] for one in services.values()} == stages == set(services)
    for one in services.values():
        assert (ROOT / "docker" / one["build"]["context"] / one["build"]["dockerfile"]).resolve() == DOCKERFILE


def test_what_the_service_save_writes_outlives_the_container(monkeypatch):
    """The default folder, by the image's HOME, is a folder of the host."""
    home = re.search(r"^ENV HOME=(\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    monkeypatch.setenv("HOME", home[1])
    monkeypatch.delenv("ROS_HOME", raising=False)
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    for one in services.values():
        assert f"${{PANOOCC_SAVES:-./saves}}:{default_folder()}" in one["volumes"]
