"""Writes the tables of docs/*.md that follow from the code:   .venv/bin/python tools/docs_tables.py [--check]

Each one stands between `<!-- table: NAME -->` and `<!-- end -->`.  With --check nothing is written: pages whose tables
are not those of the code are named, and the exit status is 1.
"""

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from panoocc_core.config import model_config, presets  # noqa: E402
from panoocc_ros.commands.models import model_row  # noqa: E402
from panoocc_ros.commands.run import add_arguments  # noqa: E402
from panoocc_ros.evaluation.settings import EvaluatorSettings  # noqa: E402
from panoocc_ros.health.stages import STAGES  # noqa: E402
from panoocc_ros.node.settings import NodeSettings  # noqa: E402
from panoocc_ros.outputs.catalogue import LEFT_OUT_FIRST  # noqa: E402
from panoocc_ros.outputs.topic_rows import topic_rows  # noqa: E402
from panoocc_ros.sim.settings import SimSettings  # noqa: E402

TABLE = re.compile(r"(<!-- table: ([\w ]+) -->\n).*?(?=<!-- end -->)", re.DOTALL)
ROS_TYPES = {bool: "bool", int: "integer", float: "double", str: "string"}


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    return "".join(f"| {' | '.join(line)} |\n" for line in [heads, ["---"] * len(heads), *rows])


def plain(text: str) -> str:
    """A text of the code that Markdown shows as it is."""
    return re.sub(r"([*|])", r"\\\1", text).replace("<", "&lt;")


def parameters(settings: type, names: Iterable[str] | None = None) -> str:
    """The parameters of a node, all or those of `names`."""
    fields = {field.name: field for field in dataclasses.fields(settings)}
    rows = []
    for name in fields if names is None else names:
        default, metadata = fields[name].default, fields[name].metadata
        limits = ", ".join(f"`{choice}`" if choice else "empty" for choice in metadata["choices"])
        if metadata["limits"]:
            low, high = metadata["limits"]
            limits = f"{low:g} to {high:,.0f}" if high >= 1e4 else f"{low:g} to {high:g}"
        shown = str(default).lower() if isinstance(default, bool) else str(default) or '""'
        may_change = "yes" if metadata["dynamic"] else ""
        kind, described = ROS_TYPES[type(default)], plain(metadata["description"])
        rows.append((f"`{name}`", kind, f"`{shown}`", limits, may_change, described))
    return table(("parameter", "type", "default", "limits or choices", "dynamic", ""), rows)


def node_parameters() -> str:
    """Those of the node, in the order and under the headings of config/params.yaml."""
    text = (ROOT / "config" / "params.yaml").read_text()
    parts = re.split(r"^ *# --- (.*?) ---$", text, flags=re.MULTILINE)[1:]
    found = ((title, re.findall(r"^    (\w+):", part, re.MULTILINE)) for title, part in zip(parts[::2], parts[1::2]))
    return "\n".join(
        f"### {title[0].upper()}{title[1:].split(':')[0]}\n\n{parameters(NodeSettings, names)}"
        for title, names in found
    )


def options() -> str:
    """Which of them `panoocc run` has as options."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    ours = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(NodeSettings)}
    shared = [one for action in parser._actions for one in action.option_strings if one in ours]
    return f"{', '.join(f'`{one}`' for one in shared)}.\n"


def topics() -> str:
    """The outputs of the node and of `panoocc run`; what a message costs is what was measured last."""
    file = ROOT / "docs" / "output_costs.json"
    costs = json.loads(file.read_text())["outputs"] if file.exists() else {}
    rows = []
    for one in topic_rows():
        qos = f"reliable, {'latched, ' if one.latched else ''}depth {one.depth}" if one.in_node else "bags only"
        bag = ("by default" if one.by_default else "on request") if one.in_bags else ""
        cost, default = costs.get(one.topic), f", {one.max_rate_hz:g}" if one.max_rate_hz else ""
        rate = f"`{one.max_rate}`{default}" if one.max_rate else "once"
        size = "" if cost is None else f"{cost['bytes'] / 1e3:,.1f} kB, {cost['cpu_ms']:.1f} ms"
        frame = re.sub(r"(\w+_frame)", r"`\1`", one.frame)
        rows.append((f"`~/{one.topic}`", f"`{one.type}`", one.what, frame, qos, bag, rate, size))
    heads = ("topic", "type", "what", "frame", "QoS", "`panoocc run`", "most a second, default", "size, CPU time")
    return table(heads, rows)


def model_table() -> str:
    """The presets."""
    rows = []
    for name in sorted(presets(), key=lambda name: (not name.startswith("pano"), "waymo" in name, name)):
        row = model_row(model_config(name))
        size, grid = ("×".join(map(str, row[key])) for key in ("input_hw", "grid_xyz"))
        ages = ", ".join(f"{age:g}" for age in row["history_ages_s"])
        history = f"{ages} s ago, {row['history_bytes'] / 1e6:.0f} MB" if ages else "none"
        numbers = (f"{row['parameters_m']:.1f} M", str(len(row["cameras"])), size, f"{grid}, {row['classes']} classes")
        rows.append((f"`{name}`", row["checkpoint_source"], *numbers, history, row["confirmed"]))
    return table(("preset", "checkpoint", "size", "cameras", "input", "output", "history", "confirmed"), rows)


def stages() -> str:
    """The stages of a set, and what happens in each."""
    return table(("stage", ""), ((f"`{name}`", what) for name, what in STAGES.items()))


def left_out() -> str:
    """What a budget leaves out, first what gives way first."""
    names = (f"`~/{name}`" if name not in STAGES else f"stage `{name}`" for name in LEFT_OUT_FIRST)
    return f"{', '.join(names)}.\n"


def faults() -> str:
    """What `make test-faults` found when the page was written."""
    rows = []
    for row in json.loads((ROOT / "docs" / "faults.json").read_text()):
        times = ("" if row[key] is None else f"{row[key]:.2f}" for key in ("detected_s", "resumed_s"))
        held = "passed" if row["passed"] else "**failed**"
        rows.append((row["fault"], row["mode"], *times, held, plain(row["note"])))
    heads = ("fault", "mode", "told after s", "back after s", "", "what is asserted")
    return table(heads, rows)


TABLES: dict[str, Callable[[], str]] = {
    "topics": topics,
    "stages": stages,
    "left out": left_out,
    "presets": model_table,
    "faults": faults,
    "parameters": node_parameters,
    "options": options,
    "simulator": lambda: parameters(SimSettings),
    "evaluator": lambda: parameters(EvaluatorSettings),
}


def written(text: str) -> str:
    """A page with its tables as the code has them."""
    return TABLE.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n", text)


def main() -> int:
    """Write the pages, or check them; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, name the pages that would change")
    check = parser.parse_args().check
    stale = {
        page: new for page in sorted((ROOT / "docs").glob("*.md")) if (new := written(old := page.read_text())) != old
    }
    for page, new in stale.items():
        if check:
            print(
                f"{page.relative_to(ROOT)}: its tables are not those of the code; run tools/docs_tables.py",
                file=sys.stderr,
            )
        else:
            page.write_text(new)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
