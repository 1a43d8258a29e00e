"""Every fault, live and offline: .venv/bin/python -m test.faults.run --out out   (`make test-faults`).

Writes OUT/faults.json and says of every row whether it passed; the exit status is 1 where one has not.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from test.faults import at_work, on_the_wire, processes
from test.faults.live import Live
from test.faults.offline import Offline

LIVE = on_the_wire.ROWS + at_work.ROWS
OFFLINE = tuple(fault for fault in on_the_wire.ROWS if fault.told is not None)


def outcomes(folder, names):
    """Rows as they come about; `names` chooses some by a part of their name."""

    def chosen(name):
        return not names or any(part in name for part in names)

    for name in filter(chosen, processes.ROWS):
        yield processes.run(name, folder, is_strict=True)
    offline = Offline(folder)
    for fault in OFFLINE:
        if chosen(fault.name):
            yield offline.run(fault)
    live = Live(folder, model="nano")
    try:
        for fault in LIVE:
            if chosen(fault.name):
                yield live.run(fault, is_strict=True)
    finally:
        live.close()


def main():
    """Run the rows; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="FOLDER", help="folder for faults.json")
    parser.add_argument("names", nargs="*", metavar="WORDS", help="rows with one of these in their name; else all")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows, begin_s = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for outcome in outcomes(Path(folder), arguments.names):
            rows.append(row := outcome.as_json())
            times = ", ".join(
                f"{key[:-2]} {row[key]:.2f} s" for key in ("detected_s", "resumed_s") if row[key] is not None
            )
            print(f"{'ok  ' if row['passed'] else 'FAIL'} {row['mode']:<7} {row['fault']:<34} {times}", flush=True)
            for problem in outcome.problems:
                print(f"     {problem}", flush=True)
            (arguments.out / "faults.json").write_text(json.dumps(rows, indent=1) + "\n")
    failed = [row["fault"] for row in rows if not row["passed"]]
    kinds, minutes = len({row["fault"] for row in rows}), (time.monotonic() - begin_s) / 60
    print(f"{len(rows)} runs of {kinds} kinds in {minutes:.1f} min, failed: {', '.join(failed) or 'none'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
