"""Compare our networks with folders of recorded cases and print a table; exit 1 beyond the tolerance.

make parity CASES=<folder of cases>        the same as
python -m test.parity.run <folder> [--rtol 1e-4] [--agreement 0.999] [--device cuda] [--stages]
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

from .check import Case, Row, map_rows, rows_of
from .network import CaseRun

RUNS = ("clean", "reference_first_frame")


@dataclass(frozen=True)
class StageRow:
    """One recorded stage of one frame."""

    where: str
    row: Row


def compare_case(folder: Path, rtol: float, agreement: float, device: str = "cpu") -> list[StageRow]:
    """Every recorded stage of a case: image maps, then all frames of both recorded runs.

    Raises:
        LookupError: a recorded stage was not computed, so nothing could be said of it.
    """
    case = Case(folder)
    out: list[StageRow] = []
    for run in RUNS:
        network = CaseRun(case, device)
        recorded = [frame for frame in case.frames if case.names(frame["frame"], run)]
        if not recorded:
            continue
        for image_set in range(len(case.inputs["images_uint8"]) if run == RUNS[0] else 0):
            maps = network.image_maps(image_set)
            out += [StageRow(f"image set {image_set}", row) for row in map_rows(case, image_set, maps, rtol)]
        for frame in case.frames:
            outputs = network.step(frame, run)
            names = case.names(frame["frame"], run)
            _demand_all(names, outputs, f"{folder.name} {run} frame {frame['frame']}")
            rows = rows_of(case, frame["frame"], outputs, run, rtol, agreement)
            out += [StageRow(f"{run} frame {frame['frame']}", row) for row in rows]
    if not out:
        raise LookupError(f"{folder}: no recorded stage was compared")
    return out


def _demand_all(names: list[str], outputs: dict, where: str) -> None:
    absent = [name for name in names if name not in outputs and name != "classes_half"]
    if absent:
        raise LookupError(f"{where}: recorded, but not computed: {', '.join(absent)}")


def summary(name: str, rows: list[StageRow], seconds: float) -> str:
    """One line of the table."""
    errors = [r for r in rows if r.row.kind != "agree"]
    shares = [r for r in rows if r.row.kind == "agree"]
    worst = max(errors, key=lambda r: r.row.rel)
    least = min(shares, key=lambda r: r.row.rel)
    failed = sum(not r.row.ok for r in rows)
    verdict = "ok" if not failed else f"{failed} FAILED"
    return (
        f"{name:14s} {len(rows):6d} {worst.row.name:22s} {worst.where:30s} {worst.row.rel:9.2e}"
        f" {100 * least.row.rel:10.4f} % {seconds:7.1f} s  {verdict}"
    )


HEADER = f"{'case':14s} {'values':>6s} {'worst stage':22s} {'in':30s} {'rel. L2':>9s} {'agreement':>12s} {'time':>9s}"


def case_folders(path: Path) -> list[Path]:
    """The case itself, or all cases in a folder."""
    if (path / "network.json").is_file():
        return [path]
    return sorted(child for child in path.iterdir() if (child / "network.json").is_file()) if path.is_dir() else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a case (it holds network.json) or a folder of cases")
    parser.add_argument("--rtol", type=float, default=1e-4, help="limit of the relative L2 error of every stage")
    parser.add_argument("--agreement", type=float, default=0.999, help="least share of equal classes")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:<index>")
    parser.add_argument("--stages", action="store_true", help="print every stage, not only the worst")
    arguments = parser.parse_args()
    folders = case_folders(arguments.folder)
    if not folders:
        parser.error(f"{arguments.folder}: neither a case nor a folder of cases (no network.json)")
    print(HEADER)
    bad = False
    for folder in folders:
        start = time.perf_counter()
        try:
            rows = compare_case(folder, arguments.rtol, arguments.agreement, arguments.device)
        except (LookupError, ValueError, OSError) as error:
            print(f"{folder.name:14s} FAILED: {error}")
            bad = True
            continue
        if arguments.stages:
            for r in rows:
                verdict = "ok  " if r.row.ok else "FAIL"
                print(f"    {verdict} {r.where:30s} {r.row.name:26s} {r.row.rel:.3e} {r.row.note}")
        print(summary(folder.name, rows, time.perf_counter() - start), flush=True)
        bad |= any(not r.row.ok for r in rows)
    return int(bad)


if __name__ == "__main__":
    raise SystemExit(main())
