"""A status of the assembler for tests of what is made of it: all is well, after six sets."""

import dataclasses
from collections import Counter

from panoocc_ros.frames.sets import AssemblerStatus

EMPTY = {"waiting": 0, "collecting": 0, "waiting_for": None, "last_drop": None, "tf_missing": None}
FINE = (
    EMPTY
    | {"sets": 6, "ready": 6, "notices": (), "missing_info": (), "fixed_frame": "odom"}
    | {"geometry": None, "pictures": {}}
)


def status(**fields):
    """The fields that are not given are those of a good drive."""
    counters = {field.name: Counter() for field in dataclasses.fields(AssemblerStatus) if field.name not in FINE}
    return AssemblerStatus(**counters | FINE | fields)
