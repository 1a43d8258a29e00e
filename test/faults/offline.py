"""Faults of a recording: the same messages as a bag, through what `panoocc run` does with it."""

from collections import Counter

from panoocc_core import OccupancyStream, load_model
from panoocc_ros.bags.bag import BagReader
from panoocc_ros.bags.writer import BagWriter
from panoocc_ros.commands.run import summary
from panoocc_ros.frames.assembler import FrameAssembler
from panoocc_ros.frames.waiting import AssemblerOptions
from panoocc_ros.messages.fields import stamp_ns
from panoocc_ros.node.choices import chosen_config
from panoocc_ros.outputs.catalogue import OCCUPANCY
from panoocc_ros.replay.replay import Replay, ReplayOptions
from test.faults.fault import CAMERA_TIMEOUT_S, PROMPT_S, Outcome, gaps
from test.faults.traffic import Traffic, serialised

BEFORE, DURING, AFTER = 4, 11, 3  # sets; a picture is odd when ten in a row are


class Offline:
    """A network and a drive for all rows."""

    def __init__(self, folder):
        self._folder, self._traffic = folder, Traffic()
        self._rig = self._traffic.write_rig(folder / "rig.yaml")
        model = str(self._traffic.write_model(folder / "small.yaml"))
        self._network = load_model(chosen_config(model, instances="none"), seeded_weights=True)
        self._options = AssemblerOptions(camera_timeout_s=CAMERA_TIMEOUT_S).patient()

    def run(self, fault):
        """Let a fault happen to a recording."""
        outcome = Outcome(fault.name, "offline", note=f"the summary says '{fault.told}'; {fault.asserted_of_memory}")
        drive, grids = self._folder / "drive.mcap", self._folder / "grids.mcap"
        with BagWriter(drive, overwrite=True) as writer:
            for event in self._events(fault.spoil):
                writer.write(event.topic, event.type, event.stamp_ns, serialised(event), event.latched)
        assembler = FrameAssembler(self._rig, self._options, config=self._network.config)
        with BagReader(drive) as bag, BagWriter(grids, overwrite=True) as writer:
            replay = Replay(bag, OccupancyStream(self._network), self._rig, assembler)
            report = replay.run(writer, ReplayOptions(outputs=(OCCUPANCY,)))
        assembler.close()
        text = summary(report, self._network.device, self._network.config.temporal)
        with BagReader(grids) as bag:
            stamps = [stamp_ns(bag.deserialise(one).header.stamp) for one in bag.messages(["/panoocc/occupancy"])]
        self._judge(fault, outcome, text, stamps, report.resets)
        return outcome

    def _events(self, spoil):
        found = [self._traffic.mounts()]
        for k in range(BEFORE + DURING + AFTER):
            events = self._traffic.events(k)
            found += spoil(k - BEFORE, events) if BEFORE <= k < BEFORE + DURING else events
        return sorted(found, key=lambda event: event.stamp_ns)

    def _judge(self, fault, outcome, text, stamps, resets):
        back_ns = self._traffic.stamp_ns(BEFORE + DURING)
        later = [ns for ns in stamps if back_ns <= ns <= self._traffic.stamp_ns(BEFORE + DURING + AFTER)]
        outcome.resumed_s = (min(later) - back_ns) * 1e-9 if later else None
        outcome.counters_ok = fault.told in text
        wanted = Counter(fault.resets)
        wanted["gap"] += gaps(stamps)
        outcome.history_ok = resets == +wanted
        if not outcome.counters_ok:
            outcome.problems.append(f"the summary does not say '{fault.told}': {text}"[:600])
        if not outcome.history_ok:
            outcome.problems.append(f"the memory was reset {dict(resets)}, not {dict(+wanted)}")
        if outcome.resumed_s is None or outcome.resumed_s > PROMPT_S:
            outcome.problems.append(f"no grid within {PROMPT_S:g} s of its end: {text}"[:600])
