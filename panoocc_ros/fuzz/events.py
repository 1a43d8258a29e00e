"""What keeps state, under sequences of events: the tree of transforms, the synchroniser, and messages on their way to
frames.  Whatever comes, they raise nothing, and what they keep stays bounded.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from hypothesis import strategies as st

from panoocc_core.geometry import NS_PER_S, rigid

from ..frames.assembler import FrameAssembler
from ..frames.rig import Rig, RigCamera
from ..frames.sets import Refused
from ..frames.waiting import AssemblerOptions
from ..messages.types import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, IMU, ODOMETRY, TRANSFORMS
from ..streams.edge import TransformError
from ..streams.synchroniser import Synchroniser
from ..streams.transforms import TransformBuffer
from .damage import FLOATS, TEXTS, Strategy, edited, message_edits
from .wholes import START_NS, messages

CAMERAS = ("front", "left", "right")
MS = NS_PER_S // 1000
FRAMES = ("odom", "base_link", "front", "a", "b", "")
DEPTH = 4

# Steps in milliseconds, so that most things happen in order, and jumps of every size.
STEPS_NS = st.sampled_from(
    (0, 1, 33 * MS, 100 * MS, 100 * MS, 100 * MS, -20 * MS, NS_PER_S, -3 * NS_PER_S, 2**40, -(2**40))
) | st.integers(-(2**33), 2**33)


def image_events() -> Strategy:
    """(camera, step of its stamp, step of the clock); no camera: time goes by."""
    return st.lists(
        st.tuples(st.sampled_from((*CAMERAS, *CAMERAS, None)), STEPS_NS, st.integers(0, 2**31)), max_size=25
    )


def drive_synchroniser(events: Sequence[tuple[str | None, int, int]]) -> None:
    """Every image comes out at most once as a new one; sets rise in time but after a restart; what waits is bounded."""
    one = Synchroniser(CAMERAS, "front", 40 * MS, missing="reuse_last", depth=DEPTH)
    stamps_ns, now_ns, taken = dict.fromkeys(CAMERAS, START_NS), 0, set[tuple[str, int]]()
    number = 0
    for camera, step_ns, wait_ns in events:
        now_ns += wait_ns
        if camera is None:
            sets = one.expire(now_ns)
        else:
            stamps_ns[camera] += step_ns
            number += 1
            sets = one.add(camera, stamps_ns[camera], number, now_ns)
        for found in sets:
            new = {(name, said) for name, said in found.messages.items() if name not in found.reused}
            assert not new & taken, f"an image was given out twice: {new & taken}"
            taken |= new
            assert {*found.messages, *found.blank} == {*CAMERAS}, "a set says nothing of a camera"
        assert max(one.waiting.values()) <= DEPTH, f"more images wait than the depth allows: {one.waiting}"
    one.flush()
    assert not any(one.waiting.values()), "images wait after the end"


def transform_events() -> Strategy:
    """(parent, child, stamp, place, is fixed) to file, and (target, source, stamp) to look up."""
    names, stamps = st.sampled_from(FRAMES) | TEXTS, STEPS_NS.map(lambda step: START_NS + step)
    filed = st.tuples(names, names, stamps, FLOATS, st.booleans())
    return st.lists(filed | st.tuples(names, names, stamps), max_size=25)


def drive_buffer(events: Sequence[tuple[Any, ...]]) -> None:
    """A pose that comes out is finite; what cannot be told raises the buffer's own error."""
    buffer = TransformBuffer(max_samples=50, max_frames=20)
    for event in events:
        try:
            if len(event) == 3:
                assert np.isfinite(buffer.lookup(*event)).all(), "a pose that is not finite"
                buffer.ancestors(event[1], event[2])
            else:
                parent, child, stamp_ns, x_m, is_static = event
                buffer.set(parent, child, stamp_ns, rigid(np.eye(3), np.array([x_m, 0.0, 1.0])), is_static)
        except TransformError:
            continue
        except ValueError:
            assert len(event) == 5, "a lookup raises TransformError"


RIG = Rig(
    cameras=tuple(RigCamera(name, f"/{name}", f"/{name}/info", frame="cam_front") for name in CAMERAS),
    reference="front",
)
OPTIONS = AssemblerOptions(odometry_topic="/odometry", imu_topic="/imu", max_waiting=DEPTH)


def assembler_events() -> Strategy:
    """(type, camera, step of the clock, which whole message, edits)."""
    whole = messages()
    kinds = (IMAGE, COMPRESSED_IMAGE, COMPRESSED_IMAGE, CAMERA_INFO, TRANSFORMS, ODOMETRY, IMU)
    changes: dict[str, list[Strategy]] = {
        kind: [message_edits(one, kind) | st.just([]) for one in whole[kind]] for kind in kinds
    }

    def event(kind: str) -> Strategy:
        which = st.integers(0, len(whole[kind]) - 1)
        return which.flatmap(
            lambda i: st.tuples(st.just(kind), st.sampled_from(CAMERAS), STEPS_NS, st.just(i), changes[kind][i])
        )

    return st.lists(st.sampled_from(kinds).flatmap(event), min_size=2, max_size=14)


def drive_assembler(events: Sequence[tuple[str, str, int, int, Any]]) -> None:
    """As the node does: every message is taken, every set that is ready becomes a frame or is refused with a reason."""
    whole, assembler, now_ns = messages(), FrameAssembler(RIG, OPTIONS), START_NS
    try:
        for kind, camera, step_ns, which, changes in events:
            message = edited(whole[kind][which], changes)
            now_ns += step_ns
            if kind in (IMAGE, COMPRESSED_IMAGE):
                assembler.on_image(camera, message, now_ns)
            elif kind == CAMERA_INFO:
                assembler.on_camera_info(camera, message)
            elif kind == TRANSFORMS:
                assembler.on_transforms(message, static=bool(which))
            elif kind == ODOMETRY:
                assembler.on_odometry(message)
            else:
                assembler.on_imu(message)
            while (ready := assembler.poll(now_ns)) is not None:
                _frame(assembler, ready)
            assert assembler.status(now_ns).waiting <= DEPTH, "more sets wait than max_waiting"
        for ready in assembler.finish():
            _frame(assembler, ready)
    finally:
        assembler.close()


def _frame(assembler: FrameAssembler, ready: Any) -> None:
    with suppress(Refused):
        assembler.frame(ready)
