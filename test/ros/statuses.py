"""A status of the assembler for tests of what is made of it: all is well, after six sets."""

import dataclasses
from collections import Counter

from panoocc_ros.frames.sets import AssemblerStatus
from panoocc_ros.health.verdicts import ERROR, OK, Health, StepTime, output_health

EMPTY = {
    "spread_ns": None,
    "transforms_age_s": None,
    "waiting": 0,
    "collecting": 0,
    "waiting_for": None,
    "last_drop": None,
    "tf_missing": None,
}
FINE = (
    EMPTY
    | {"sets": 6, "ready": 6, "notices": (), "missing_info": (), "fixed_frame": "odom"}
    | {"network_frame": "that of the model preset", "pose_source": "transforms (/tf)"}
    | {"geometry": None, "pictures": {}, "last_texts": {}, "converted": {}}
)


def status(**fields):
    """The fields that are not given are those of a good drive."""
    counters = {field.name: Counter() for field in dataclasses.fields(AssemblerStatus) if field.name not in FINE}
    return AssemblerStatus(**counters | FINE | fields)


GOES_ON = Health("clock", OK, "time goes on")


def output(
    accounts,
    *inputs,
    step=StepTime(),  # noqa: B008
    is_idle=True,
    deaf=None,
    clock=GOES_ON,
    has_error=False,
    **fields,
):
    has_error |= any(one.level == ERROR for one in inputs)
    return output_health(status(**fields), accounts, step, is_idle, 1, deaf or {}, clock, inputs, has_error)
