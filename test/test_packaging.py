"""What `pip install .` and `make build` leave behind, used from outside the checkout."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from panoocc_core.base.resources import folder

CHECKOUT = folder("config").parent
DEPENDENCIES = (
    *(
        "torch",
        "setuptools",
        "numpy",
        "cv2",
        "yaml",
        "safetensors",
        "scipy",
        "PIL",
        "rosbags",
        "simplejpeg",
        "tqdm",
        "matplotlib",
    ),
)
INSTALLED = CHECKOUT / ".ros" / "install"
WHERE_FROM = """
import panoocc_core, panoocc_ros
from panoocc_core.base.resources import folder, listing
from panoocc_core.ops.native_library import library
print(panoocc_core.__file__); print(panoocc_ros.__file__); print(folder("config")); print(folder("msg"))
print(library()._name)
print(*listing("models"))
"""


def presets() -> list[str]:
    return sorted(path.stem for path in (CHECKOUT / "config" / "models").glob("*.yaml"))


def assert_comes_from(prefix: Path, python: str, environment: dict[str, str], cwd: Path) -> None:
    """Both packages and both folders are those below `prefix`, and the presets are complete."""
    done = subprocess.run(
        [python, "-c", WHERE_FROM], env=environment, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    *places, models = done.stdout.splitlines()
    assert len(places) == 5 and all(Path(place).is_relative_to(prefix) for place in places), done.stdout
    assert models.split() == presets()


def distributions(text: str) -> set[str]:
    """The names in lines such as `torch==2.13.0`, or items such as `"torch>=2.4",`."""
    return {name.lower() for name in re.findall(r'^[ "]*([A-Za-z][\w-]*)(?=[<>=\n])', text, re.MULTILINE)}


def test_every_list_of_requirements_has_what_the_package_needs():
    project = (CHECKOUT / "pyproject.toml").read_text()
    needed = distributions(project[project.index("dependencies = [") :].split("]")[0].partition("[")[2])
    assert needed >= {"torch", "simplejpeg", "tqdm"}
    for name in ("base.txt", "ros-system.txt"):
        listed = distributions((CHECKOUT / "requirements" / name).read_text())
        assert needed <= listed and not {"pytest", "mypy", "ruff"} & listed, name


@pytest.fixture(scope="module")
def pip_prefix(tmp_path_factory) -> Path:
    """A fresh environment into which a copy of the checkout was installed, without its dependencies."""
    work = tmp_path_factory.mktemp("pip")
    source, prefix = work / "source", work / "environment"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    for name in ("panoocc_core", "panoocc_ros", "config", "launch", "msg"):
        shutil.copytree(CHECKOUT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    venv.create(prefix, with_pip=False)
    command = [sys.executable, "-m", "pip", "--python", str(prefix / "bin" / "python"), "install", "--quiet"]
    done = subprocess.run(
        [*command, "--no-deps", "--no-build-isolation", "--no-index", str(source)],
        env=_with_dependencies(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return prefix


def _with_dependencies() -> dict[str, str]:
    """An environment whose Python finds our dependencies, but neither the checkout nor a workspace."""
    # Beside an installed ROS some lie in this environment, others where the system's packages are.
    found = [Path(importlib.util.find_spec(name).submodule_search_locations[0]).parent for name in DEPENDENCIES]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(path) for path in dict.fromkeys(found))}


def test_pip_installs_packages_and_the_files_beside_them(pip_prefix, tmp_path):
    assert_comes_from(pip_prefix, str(pip_prefix / "bin" / "python"), _with_dependencies(), tmp_path)


def test_pip_installs_the_sources_of_kernels(pip_prefix):
    wanted = {path.name for path in (CHECKOUT / "panoocc_core").rglob("*.cu")}
    assert wanted and {path.name for path in pip_prefix.rglob("panoocc_core/**/*.cu")} == wanted


def test_pip_installs_the_command(pip_prefix):
    command = pip_prefix / "bin" / "panoocc"
    assert "panoocc_ros.commands.cli" in command.read_text() and os.access(command, os.X_OK)


@pytest.mark.live
@pytest.mark.skipif(
    not INSTALLED.is_dir() and os.environ.get("PANOOCC_REQUIRE_ROS") != "1", reason="no workspace; run `make build`"
)
class TestWorkspace:
    def environment(self) -> dict[str, str]:
        """That of `make test`, without the checkout, which comes first there."""
        paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path != str(CHECKOUT)]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

    def test_colcon_installs_packages_and_the_files_beside_them(self, tmp_path):
        assert_comes_from(INSTALLED, sys.executable, self.environment(), tmp_path)

    def run(self, name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
        """Start one of the installed executables."""
        executable = INSTALLED / "lib" / "panoocc" / name
        assert executable.read_text().splitlines()[0] == "#!/usr/bin/env python3"
        command = [str(executable), *arguments]
        return subprocess.run(
            command, env=self.environment(), cwd=cwd, capture_output=True, text=True, timeout=120, check=False
        )

    def test_the_command_is_on_the_path_of_a_sourced_workspace(self, tmp_path):
        words = f"source {INSTALLED}/local_setup.bash && command -v panoocc && panoocc --help"
        environment = {
            **self.environment(),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
        }
        done = subprocess.run(
            ["bash", "-c", words],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0 and done.stdout.startswith(f"{INSTALLED}/"), done.stdout + done.stderr
        assert "usage: panoocc" in done.stdout

    @pytest.mark.parametrize("name", ["panoocc", "play_bag", "record_bag"])
    def test_executables_explain_themselves(self, name, tmp_path):
        done = self.run(name, "--help", cwd=tmp_path)
        assert done.returncode == 0 and "usage" in done.stdout, done.stdout + done.stderr

    def test_the_node_starts_and_asks_for_weights(self, tmp_path):
        done = self.run("occupancy_node", cwd=tmp_path)
        assert done.returncode != 0 and "parameter checkpoint" in done.stderr, done.stdout + done.stderr

    @pytest.mark.parametrize("name", ["VoxelGrid", "LabelSet"])
    def test_messages_have_the_fields_of_their_definition(self, name):
        import panoocc.msg

        definition = (folder("msg") / f"{name}.msg").read_text()
        lines = [line.split("#")[0].split() for line in definition.splitlines()]
        fields = {words[1]: words[0] for words in lines if len(words) == 2 and "=" not in words[1]}
        generated = getattr(panoocc.msg, name).get_fields_and_field_types()
        assert list(generated) == list(fields)
        for field, declared in fields.items():
            element = declared.removesuffix("[]")
            element = {"bool": "boolean"}.get(element, element)
            assert generated[field] == (f"sequence<{element}>" if declared.endswith("[]") else element)
