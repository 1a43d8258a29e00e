"""What the documents point at is there, and what they tell to type, and quote, is what the code takes and says."""

import argparse
import ast
import importlib.util
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from panoocc_core.cameras.calibration_file import load_calibration
from panoocc_ros.commands.cli import COMMANDS, parser
from panoocc_ros.commands.sim import EPILOG
from panoocc_ros.frames.rig import load_rig
from panoocc_ros.node.settings import NodeSettings
from panoocc_ros.outputs.catalogue import ANNOUNCEMENTS, LABELLED_POINTS, OUTPUTS
from panoocc_ros.sim.faults import parse_fault
from panoocc_ros.sim.settings import SimSettings

ROOT = Path(__file__).parents[1]
ON_TOP, PAGES = [*ROOT.glob("*.md")], [*(ROOT / "docs").glob("*.md")]
DOCUMENTS = [*ON_TOP, *PAGES]
FAULTS = re.compile(r'--fault "([^"]*)"')
BLOCKS = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CLI = re.compile(r"^(?:panoocc|\.venv/bin/panoocc|.* -m panoocc_ros\.commands\.cli) (.+)$")
per_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", BLOCKS.sub("", text))


def anchors(document: Path) -> dict[str, str]:
    """Anchor of every heading on a forge -> the one that it has in the site of `make docs`."""
    found = {}
    for heading in re.findall(r"^#+ (.+)$", BLOCKS.sub("", document.read_text()), re.MULTILINE):
        words = re.sub(r"[^\w\s-]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)).strip().lower()
        found[re.sub(r"\s", "-", words)] = re.sub(r"[-\s]+", "-", words)
    return found


@per_document
def test_relative_links_lead_somewhere(document):
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text())):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = document.parent / path if path else document
        assert target.is_file(), link  # a forge shows folders, the site has none
        if anchor:
            assert anchors(target).get(anchor) == anchor, link


@per_document
def test_the_site_shows_tables_and_lists_as_a_forge_does(document):
    lines = BLOCKS.sub("", document.read_text()).splitlines()
    for before, line in zip(["", *lines], lines):
        assert not re.fullmatch(r"\|[-| ]+\|", line) or before.strip("| "), f"a table without heads: {before}"
        starts_list = re.match(r"- |\d+\. |\|", line) and not re.match(r"\s|- |\d+\. |\|", before)
        assert not starts_list or not before, f"an empty line is missing above: {line}"


@per_document
def test_rows_of_tables_have_as_many_cells_as_their_heads(document):
    cells = 0
    for line in document.read_text().splitlines():
        there = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not cells or there in (0, cells), line
        cells = there


def test_every_page_is_in_the_menu_of_the_site_once():
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    entries = re.findall(r"[\w./]+\.md", str(menu))
    assert len(entries) == len(set(entries)), "in the menu twice"
    pages = {"index.md" if path.name == "README.md" else path.name for path in DOCUMENTS}
    missing = pages - set(entries)
    assert not missing, f"add to `nav` in mkdocs.yml: {', '.join(sorted(missing))}"
    assert all(entry in pages or (ROOT / entry).is_file() for entry in entries)


def test_every_page_is_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page.suffix == ".md" and page not in reached:
            reached.add(page)
            waiting += [page.parent / link for link in re.findall(r"\]\(([\w./-]+)", page.read_text())]
    assert {path.resolve() for path in DOCUMENTS} <= reached


def test_generated_tables_are_those_of_the_code():
    spec = importlib.util.spec_from_file_location("docs_tables", ROOT / "tools" / "docs_tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    named = {name for page in PAGES for name in re.findall(r"<!-- table: ([\w ]+) -->", page.read_text())}
    assert named == set(tables.TABLES)
    stale = [page.name for page in PAGES if tables.written(page.read_text()) != page.read_text()]
    assert not stale, "run .venv/bin/python tools/docs_tables.py"


@per_document
def test_files_that_are_named_exist(document):
    there = {
        path.name
        for folder in ("panoocc_core", "panoocc_ros", "launch", "test", "tools")
        for path in (ROOT / folder).rglob("*.py")
    }
    named = set(re.findall(r"`(?:[\w./]*/)?(\w+(?:\.launch)?\.py)`", document.read_text()))
    assert named <= there | {"setup.py"}


def typed(document: Path) -> list[list[str]]:
    """The words of every command line in the code blocks of a document."""
    blocks = [text for language, text in BLOCKS.findall(document.read_text()) if language in ("", "bash")]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := _words(line))]


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return []  # a quotation, of a paper's title


@per_document
def test_commands_in_blocks_can_be_typed(document, capsys):
    for words in typed(document):
        command = CLI.match(shlex.join(words))
        if command is None or "COMMAND" in words:
            continue
        rest = shlex.split(command[1])
        try:
            parser(rest[0]).parse_args(rest)
        except SystemExit as ended:
            if ended.code:
                pytest.fail(f"{shlex.join(words)}: {capsys.readouterr().err}")


@per_document
def test_examples_in_python_can_be_read_and_import_what_there_is(document):
    for language, text in BLOCKS.findall(document.read_text()):
        if language == "python":
            imports = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
            exec(compile(ast.Module(imports, []), document.name, "exec"), {})


@per_document
def test_commands_in_sentences_have_these_options(document):
    for span in re.findall(r"`panoocc ([^`]+)`", document.read_text().replace("\n", " ")):
        name = span.split()[0]
        if not name.isupper() and not name.startswith("-"):
            assert name in COMMANDS, span
            assert set(re.findall(r"--[a-z][a-z-]*", span)) <= options_of(name), span


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_commands_names_commands_that_there_are(command):
    subparsers = next(a for a in parser(command)._actions if isinstance(a, argparse._SubParsersAction))
    for name, options in re.findall(
        r"`panoocc (\w+)((?: --[\w-]+)*)", " ".join(subparsers.choices[command].format_help().split())
    ):
        assert name in COMMANDS and set(options.split()) <= options_of(name)


def options_of(command: str) -> set[str]:
    """Of a command and of its actions, where it has some."""
    subparsers = next(a for a in parser(command)._actions if isinstance(a, argparse._SubParsersAction))
    chosen = subparsers.choices[command]
    parts = [a for one in chosen._actions if isinstance(one, argparse._SubParsersAction) for a in one.choices.values()]
    return {option for part in (chosen, *parts) for action in part._actions for option in action.option_strings}


@per_document
def test_launch_arguments_and_targets_exist(document):
    parameters = {field.name for settings in (NodeSettings, SimSettings) for field in fields(settings)}
    targets = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()
    for words in typed(document):
        if words[:2] == ["ros2", "launch"]:
            launch_file = ROOT / "launch" / words[3]
            text = launch_file.read_text() + (ROOT / "launch" / "panoocc.launch.py").read_text()
            for argument in (word.partition(":=")[0] for word in words[4:] if ":=" in word):
                assert argument in parameters or f'"{argument}"' in text, words
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= set(targets), words
    named = re.findall(r"`make ([a-z]+)", document.read_text())
    assert set(named) <= set(targets)


@per_document
def test_topics_below_the_node_exist(document):
    ours = {one.topic for one in (*OUTPUTS, *ANNOUNCEMENTS)} | {LABELLED_POINTS}
    of_nodes = said(ROOT / "panoocc_ros" / "evaluation") | said(ROOT / "panoocc_ros" / "node")
    for topic in re.findall(r"`~/([\w/]+)`", document.read_text()):
        assert topic in ours or topic.removeprefix("frame/") in of_nodes, topic


def said(*folders: Path) -> set[str]:
    """Every piece of text that is in the code of some folders."""
    trees = [ast.parse(path.read_text()) for folder in folders for path in folder.rglob("*.py")]
    constants = (one.value for tree in trees for one in ast.walk(tree) if isinstance(one, ast.Constant))
    return {value for value in constants if isinstance(value, str)}


def test_messages_that_are_explained_are_those_of_the_code():
    cells = re.findall(r"^\| ([^|]*) \|", (ROOT / "docs" / "diagnostics.md").read_text(), re.MULTILINE)
    spans = [span for cell in cells for span in re.findall(r"`([^`]*)`", cell)]
    messages = [span for span in spans if "…" in span or ": " in span]
    assert len(messages) > 25
    texts = "\n".join(said(ROOT / "panoocc_core", ROOT / "panoocc_ros"))
    for message in messages:
        pieces = [piece.strip(" .,;:()") for piece in message.split("…")]
        lost = [piece for piece in pieces if len(piece) > 3 and piece not in texts]
        assert not lost, message


def test_files_of_the_vehicle_page_can_be_used(tmp_path):
    blocks = [
        text for language, text in BLOCKS.findall((ROOT / "docs" / "vehicle.md").read_text()) if language == "yaml"
    ]
    paths = [tmp_path / "rig.yaml", tmp_path / "calibration.yaml"]
    for path, text in zip(paths, blocks, strict=True):
        path.write_text(text)
    rig = load_rig(str(paths[0]))
    assert len(rig.names) == 6 and rig.reference == "CAM_FRONT"
    calibration = load_calibration(paths[1], rig.names)
    assert "CAM_FRONT" in calibration.mounts and "CAM_FRONT" in calibration.infos


def test_there_are_documents():
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "architecture.md"} <= {path.name for path in DOCUMENTS}


@pytest.mark.parametrize(
    "text", [*(path.read_text() for path in DOCUMENTS), EPILOG], ids=[*(path.name for path in DOCUMENTS), "help"]
)
def test_faults_in_examples_are_faults(text):
    for words in FAULTS.findall(text):
        parse_fault(words)


def test_there_are_faults_in_examples():
    assert "simulator.md" in {path.name for path in DOCUMENTS if FAULTS.search(path.read_text())}
