"""Every recorded stage of the original networks within its tolerance."""

import os
from pathlib import Path

import pytest

from ..core.conftest import DEVICES
from .run import case_folders, compare_case

HERE = Path(__file__).parent
PORTABLE = case_folders(HERE / "portable")
# Cases with images under a non-commercial licence are not part of the project.
FOREIGN = Path(os.environ.get("PANOOCC_PARITY_CASES", HERE.parents[2] / "shared" / "parity" / "cases"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("folder", PORTABLE, ids=lambda folder: folder.name)
def test_portable_case(folder, device):
    rows = compare_case(folder, rtol=1e-4, agreement=0.999, device=device)
    failed = [f"{r.where} {r.row.name}: {r.row.rel:.2e} {r.row.note}" for r in rows if not r.row.ok]
    assert not failed, failed
    assert len(rows) > 80


def test_all_portable_cases_are_there():
    names = ["occ_base", "occ_small", "pan_base_4f", "pan_large_4f", "pan_small_1f", "pan_small_4f"]
    assert [folder.name for folder in PORTABLE] == names


@pytest.mark.skipif(not case_folders(FOREIGN), reason="no folder of cases with real images (PANOOCC_PARITY_CASES)")
def test_a_case_with_real_images():
    """One of them: `make parity CASES=<folder>` compares all, which takes minutes."""
    folder = next(folder for folder in case_folders(FOREIGN) if folder.name == "pan_small_4f")
    rows = compare_case(folder, rtol=1e-4, agreement=0.999)
    assert rows and all(r.row.ok for r in rows)


def test_a_mistake_is_noticed(monkeypatch):
    """The comparison can fail: with true voxel centres in cross-attention it must."""
    from . import network

    original = network.case_config

    def mistaken(case):
        from dataclasses import replace

        config = original(case)
        return replace(config, encoder=replace(config.encoder, reference_heights="voxel_centres"))

    monkeypatch.setattr(network, "case_config", mistaken)
    rows = compare_case(HERE / "portable" / "occ_small", rtol=1e-4, agreement=0.999)
    assert any(not r.row.ok and r.row.name == "logits" for r in rows)
