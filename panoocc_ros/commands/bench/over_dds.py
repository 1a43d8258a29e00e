"""The node over DDS: `--live`."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from panoocc_core.base.whole_files import write_json

from ...demo.processes import ProcessError
from ...live_bench.run import live_bench, live_table, shipped_profile
from ...node.choices import chosen_device
from ...ros.exit_codes import FAILED
from ...ros.parameter_fields import SettingsError
from ..shared.failures import Ended
from ..shared.streets import live_load


def live(arguments: argparse.Namespace) -> None:
    """With the package's profile and without."""
    if len(arguments.model or ()) > 1:
        raise SettingsError(f"--live runs one network, not {len(arguments.model)}: give one", "model")
    for name in ("precision", "threads"):
        values = getattr(arguments, name) or [None]
        if len(values) > 1:
            raise SettingsError("--live runs one setting: give one value", name)
        setattr(arguments, name, values[0])
    arguments.precision = arguments.precision or "fp32"
    chosen_device(arguments.device)
    reports = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        model = arguments.model[0] if arguments.model else None
        config, load = live_load(arguments, model, arguments.instances, arguments.live, folder, arguments.at_once)
        for number, profile in enumerate((shipped_profile(), None)):
            out = folder / str(number)
            out.mkdir()
            try:
                report = live_bench(load, out, profile)
            except ProcessError as error:
                raise Ended(str(error), FAILED) from error
            print(f"{config.name}: {live_table(report)}\n", flush=True)
            reports.append(report.as_dict())
    if arguments.json is not None:
        write_json(arguments.json, {"live": reports})
        print(f"written: {arguments.json}")
