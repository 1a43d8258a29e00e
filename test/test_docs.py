"""What the documents point at is there, and what they tell to type can be read."""

import re
from pathlib import Path

import pytest

from panoocc_ros.commands.sim import EPILOG
from panoocc_ros.sim.faults import parse_fault

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
FAULTS = re.compile(r'--fault "([^"]*)"')


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(document):
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text())
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_exist(document):
    there = {
        path.name
        for folder in ("panoocc_core", "panoocc_ros", "launch", "test")
        for path in (ROOT / folder).rglob("*.py")
    }
    named = set(re.findall(r"`(?:[\w./]*/)?(\w+(?:\.launch)?\.py)`", document.read_text()))
    assert named <= there | {"setup.py"}


def test_there_are_documents():
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "architecture.md"} <= {path.name for path in DOCUMENTS}


@pytest.mark.parametrize(
    "text", [*(path.read_text() for path in DOCUMENTS), EPILOG], ids=[*(path.name for path in DOCUMENTS), "help"]
)
def test_faults_in_examples_are_faults(text):
    for words in FAULTS.findall(text):
        parse_fault(words)


def test_there_are_faults_in_examples():
    assert {"README.md", "simulator.md"} <= {path.name for path in DOCUMENTS if FAULTS.search(path.read_text())}
