"""Faults of a node over DDS: one process for all of them, a drive in real time, and what the node says meanwhile."""

import heapq
import itertools
import os
import struct
import time
from collections import Counter
from contextlib import contextmanager

from test.ros.needs_ros import require_ros

require_ros()

import rclpy  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from panoocc.msg import VoxelGrid  # noqa: E402

from panoocc_ros.ros.graph import message_class, qos  # noqa: E402
from test.faults.fault import CAMERA_TIMEOUT_S, PROMPT_S, TF_TIMEOUT_S, Outcome, gaps  # noqa: E402
from test.faults.traffic import Traffic, serialised  # noqa: E402
from test.ros.drive import T0  # noqa: E402
from test.ros.live import NodeProcess, Peer  # noqa: E402

FRAGILE = "../test/faults/fragile_node.py"
SETTINGS = {
    "seeded_weights": True,
    "threads": 1,  # the other core is the drive's
    "image_reliability": "reliable",
    "diagnostics_period_s": 0.2,
    "camera_timeout_s": CAMERA_TIMEOUT_S,
    "tf_timeout_s": TF_TIMEOUT_S,
}
WELL_S = 60.0  # within which the node must be well before a fault begins, on a busy machine too
START_S = 120.0
LATE_S = 30.0  # what takes longer than this never comes
AHEAD_S = 0.2  # how long before its time a set is made


class Observer(Peer):
    """A peer that remembers when what came."""

    def __init__(self):
        super().__init__()
        self.reports = []  # (time, subject -> status)
        self.arrivals = []  # (time, stamp_ns) of the grids
        self.node.create_subscription(VoxelGrid, "/panoocc/occupancy", self._on_grid, qos(), raw=True)

    def _on_diagnostics(self, message):
        super()._on_diagnostics(message)
        self.reports.append((time.monotonic(), dict(self.health)))

    def _on_grid(self, data):
        self.raw_grids.clear()
        sec, nanosec = struct.unpack_from("<iI", data, 4)
        self.arrivals.append((time.monotonic(), sec * 10**9 + nanosec))


class Live:
    """A node under test and the drive that it is in; `step` lets both go on for a moment.

    Args:
        model: its network; None: one so small that its time does not count.
    """

    def __init__(self, folder, model=None):
        self.trouble = folder / "trouble"
        os.environ["TROUBLE"] = str(self.trouble)
        self.traffic, self.log = Traffic(), folder / "node.log"
        self.rig = self.traffic.write_rig(folder / "rig.yaml")
        model = model or self.traffic.write_model(folder / "small.yaml")
        self.settings = SETTINGS | {"rig": folder / "rig.yaml", "model": model}
        self.peer = Observer()
        self.node = NodeProcess(self.log, FRAGILE, **self.settings)
        self._zero_s, self._next = time.monotonic() + AHEAD_S, 0
        self._waiting, self._order = [], itertools.count()
        self._spoil, self._first = None, 0
        self._is_paused = self._is_held = False
        self.sent_s = {}  # number of a set -> when its images were due and the machine had the time to send them
        self.answer_s = None  # set by what is done, where the node answers it
        for one in (self.traffic.mounts(), *self.traffic.events(0)):
            if one.topic not in self.peer.publishers:
                self.peer.publishers[one.topic] = self.peer.node.create_publisher(
                    message_class(one.type), one.topic, qos(latched=one.latched, depth=1 if one.latched else 200)
                )
        self.peer.wait(lambda: self.peer.health, "diagnostics of the node", 2 * START_S)
        self._send(self.traffic.mounts())

    def close(self):
        """End both; returns the exit code of the node."""
        code = self.node.interrupt()
        self.peer.close()
        return code

    # --- the drive ---

    def step(self):
        """Send what is due, hear what has come."""
        if not self._is_paused:
            now_s = time.monotonic()
            behind_s = now_s - self._wall_s(self.traffic.stamp_ns(self._next))
            if behind_s > 0:  # on a busy machine the drive slows down, without a gap in its stamps
                self._zero_s += behind_s
            while self._wall_s(self.traffic.stamp_ns(self._next)) - AHEAD_S <= now_s:
                self._make(self._next)
                self._next += 1
            while self._waiting and self._waiting[0][0] <= now_s and not self._is_held:
                self._pop(now_s)
        rclpy.spin_once(self.peer.node, timeout_sec=0.005)
        assert self.node.process.poll() is None, f"the node has died: {self.node.words[-2000:]}"

    def _make(self, k):
        events = self.traffic.events(k)
        if self._spoil is not None:
            events = self._spoil(k - self._first, events)
        marker = (self._wall_s(self.traffic.stamp_ns(k)), next(self._order), k)
        for due in (marker, *((self._wall_s(one.stamp_ns), next(self._order), one) for one in events)):
            heapq.heappush(self._waiting, due)

    def _pop(self, now_s):
        _, _, what = heapq.heappop(self._waiting)
        if isinstance(what, int):
            self.sent_s[what] = now_s
        else:
            self._send(what)

    def _send(self, event):
        self.peer.publishers[event.topic].publish(serialised(event))

    def _wall_s(self, stamp_ns):
        return self._zero_s + (stamp_ns - T0) * 1e-9

    def until(self, condition, limit_s, what):
        """Go on until `condition()`."""
        end_s = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end_s, f"no {what} within {limit_s:g} s; the node says {self.words()}"
            self.step()

    def words(self):
        """What the node complains of."""
        return {name: one.message for name, one in self.peer.health.items() if one.level != b"\0"}

    # --- what can be done to the node ---

    def call(self, kind, name, request):
        """The answer of a service, while the drive goes on."""
        client = self.peer.node.create_client(kind, f"/panoocc/{name}")
        self.until(client.service_is_ready, LATE_S, f"service {name}")
        future = client.call_async(request)
        self.until(future.done, LATE_S, f"answer of {name}")
        self.peer.node.destroy_client(client)
        return future.result()

    def restart(self):
        """Start the node anew, once it has ended, and wait until it is active."""
        begin_s = time.monotonic()
        self.node = NodeProcess(self.log.with_suffix(f".{self._next}.log"), FRAGILE, **self.settings)
        self.until(lambda: self.peer.reports[-1][0] > begin_s and "sets" in self.peer.health, START_S, "active node")

    def change_state(self, *transitions):
        """Transitions of the lifecycle, one after the other; what is refused, as before a step has ended, is asked for
        again."""
        for one in transitions:
            request = ChangeState.Request(transition=Transition(id=one))
            end_s = time.monotonic() + LATE_S
            while not self.call(ChangeState, "change_state", request).success:
                assert time.monotonic() < end_s, f"transition {one} is refused"

    @contextmanager
    def paused(self):
        """No message is sent, and the drive's time stands."""
        self._is_paused, begin_s = True, time.monotonic()
        yield
        self._is_paused = False
        self._zero_s += time.monotonic() - begin_s
        self._waiting = [(due_s + time.monotonic() - begin_s, *rest) for due_s, *rest in self._waiting]

    @contextmanager
    def held(self):
        """Messages wait, and come in one burst."""
        self._is_held = True
        yield
        self._is_held = False

    # --- a fault ---

    def run(self, fault, is_strict):
        """Let a fault happen; `is_strict` holds the node to the second."""
        outcome = Outcome(fault.name, "live", note=fault.asserted)
        try:
            self._run(fault, outcome, is_strict)
        except AssertionError as error:
            outcome.problems.append(str(error).splitlines()[0][:300] if str(error) else repr(error))
            self._recover()
        return outcome

    def _run(self, fault, outcome, is_strict):
        if fault.is_fresh:
            self.change_state(Transition.TRANSITION_DEACTIVATE)
            self._waiting.clear()  # nothing that is sound is on its way
        else:
            self._be_well(fault)
        before, last_grid = self._counters(), len(self.peer.arrivals) - 1
        self.answer_s = None
        self._spoil, self._first = fault.spoil, self._next
        effect = self._next
        with fault.act(self):
            if fault.is_fresh:
                self.change_state(Transition.TRANSITION_ACTIVATE)
                before = Counter()
            if fault.meets_sets:
                effect = max(self.sent_s) + 1
            is_on_the_wire = (fault.spoil is not None and not fault.is_fresh) or fault.meets_sets
            effect_s = self._time_of(effect) if is_on_the_wire else time.monotonic()
            end_s = effect_s + max(fault.lasts_s, fault.after_s)
            seen_s = self._watch(fault, before, effect_s, end_s)
        self._spoil, healthy = None, self._next
        if seen_s is not None:
            outcome.detected_s = max(0.0, seen_s - effect_s - fault.after_s)
        if fault.is_answered:
            outcome.detected_s = self.answer_s
        back_s = self._time_of(healthy)
        stamps = {self.traffic.stamp_ns(k) for k in range(healthy, healthy + 1000)}
        self.until(lambda: any(ns in stamps for s, ns in self.peer.arrivals if s >= back_s), LATE_S, "grid afterwards")
        came_s = next(s for s, ns in self.peer.arrivals if s >= back_s and ns in stamps)
        outcome.resumed_s = came_s - back_s
        self.until(lambda: self.peer.reports[-1][0] > came_s + 0.25, LATE_S, "report afterwards")
        if fault.is_fresh or fault.is_new_session:  # of a new stream, only what came since it began counts
            begin_s = effect_s if fault.is_fresh else back_s
            before, last_grid = Counter(), sum(s < begin_s for s, _ in self.peer.arrivals)
        stamps_ns = [ns for _, ns in self.peer.arrivals[max(last_grid, 0) :]]
        self._judge(fault, outcome, before, stamps_ns, (effect_s, back_s), is_strict)

    def _watch(self, fault, before, effect_s, end_s):
        """Go on until the fault has been told and has lasted long enough; returns when it was told."""
        seen_s, is_told = None, fault.says is not None or bool(fault.counts)
        limit_s = end_s + LATE_S
        while time.monotonic() < end_s or (is_told and seen_s is None and time.monotonic() < limit_s):
            self.step()
            if seen_s is None and is_told:
                seen_s = self._told(fault, before, effect_s)
        return seen_s

    def _told(self, fault, before, effect_s):
        for at_s, health in self.peer.reports[-3:]:
            is_said = fault.says is None or said(health, fault.says)
            if at_s >= effect_s and is_said and (fault.says or self._risen(fault.counts, before, health)):
                return at_s
        return None

    def _judge(self, fault, outcome, before, stamps_ns, span_s, is_strict):
        problems, health = outcome.problems, self.peer.reports[-1][1]
        outcome.counters_ok = self._risen(fault.counts, before, health) if fault.counts else None
        if outcome.counters_ok is False:
            problems.append(f"not all of {', '.join(fault.counts)} rose")
        if (fault.says or fault.counts or fault.is_answered) and outcome.detected_s is None:
            problems.append(f"never told; the node said {self.words()}"[:400])
        wanted = Counter(fault.resets)
        wanted["gap"] += gaps(stamps_ns)
        resets = _resets(self._counters(health)) - _resets(before)
        outcome.history_ok = resets == +wanted
        if not outcome.history_ok:
            problems.append(f"the memory was reset {dict(resets)}, not {dict(+wanted)}")
        times_s = [s for s, _ in self.peer.arrivals if span_s[0] <= s <= span_s[1]]
        if fault.goes_on and not times_s:
            problems.append("no grid while it lasted")
        if is_strict:
            late = {"told": outcome.detected_s, "back": outcome.resumed_s}
            problems += [f"{what} after {s:.1f} s" for what, s in late.items() if s is not None and s > PROMPT_S]

    def _be_well(self, fault):
        """Go on until grids come, nothing else is wrong with them, and the fault is not told of the one before."""
        begin_s = time.monotonic()

        def is_well():
            health, grids = self.peer.health, [s for s, _ in self.peer.arrivals if s > begin_s]
            return (
                len(grids) >= 2
                and self.peer.reports[-1][0] > grids[1]
                and "output" in health
                and health["output"].level == b"\0"
                and (fault.says is None or not said(health, fault.says))
            )

        self.until(is_well, WELL_S, "well-being before the fault")

    def _recover(self):
        """After a row that failed: the next one begins with a node that is activated anew."""
        self._spoil, self._is_paused, self._is_held = None, False, False
        self.trouble.unlink(missing_ok=True)
        if self.node.process.poll() is not None:
            self.restart()
            return
        for one in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CONFIGURE):
            self.call(ChangeState, "change_state", ChangeState.Request(transition=Transition(id=one)))
        self.change_state(Transition.TRANSITION_ACTIVATE)

    def _time_of(self, k):
        """When the images of a set were sent, or would have been."""
        self.until(lambda: k in self.sent_s, LATE_S, f"time to send set {k}")
        return self.sent_s[k]

    def _counters(self, health=None):
        values = Counter()
        for subject, status in (health or self.peer.health).items():
            for one in status.values:
                if one.value.isdigit():
                    values[f"{subject}/{one.key}"] = int(one.value)
        return values

    def _risen(self, keys, before, health):
        now = self._counters(health)
        return bool(keys) and all(now[key] > before.get(key, 0) for key in keys)


def said(health, says):
    """Whether a status says so."""
    status = health.get(says.subject)
    return status is not None and status.level[0] >= says.level and says.text in status.message


def _resets(values):
    head = "model/resets."
    return Counter({key.removeprefix(head): count for key, count in values.items() if key.startswith(head)})
