"""A planner's loop: how far is the way ahead known to be free, and how fast may the vehicle go?

    python examples/planner_loop.py grids.mcap     # the grids that `panoocc run` or `record_bag` left in a bag
    python examples/planner_loop.py                # live: grids of panoocc/occupancy come in, ~/speed_mps goes out

`decide` is the planner, and both ways ask it about the same kind of grid.  It goes straight on; one that follows a path
asks `box` at the poses of its path as well.  `planner_loop.cpp` decides the same in C++.
"""

import argparse
import contextlib
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from panoocc_core.labels import LabelSet
from panoocc_core.planning import KnownSpace, OrientedBox, State, ground_ids
from panoocc_ros.bags.bag import BagError, BagReader
from panoocc_ros.bags.recording import recorded_labels
from panoocc_ros.messages.fields import stamp_ns
from panoocc_ros.messages.voxel_grid import labels_from_message
from panoocc_ros.planner.reader import known_space

# The vehicle in its base_link: x ahead, z up from the ground below the rear axle.
FRONT_M, WIDTH_M = 3.8, 1.9
LOW_M, HIGH_M = 0.4, 1.8  # of what is asked about: above kerbs, below branches
BLIND_M = 2.6  # ahead of the bumper no camera sees the road: what is unknown there, earlier grids saw
BRAKING_MPS2, MARGIN_M, TOP_MPS = 2.5, 2.0, 14.0
REACH_M = 40.0
PATIENCE_S = 0.5  # without a grid for so long the vehicle stops
AGE_S = 0.2  # of a grid in a bag when its decision is made


@dataclass(frozen=True)
class Decision:
    """What the planner makes of one grid."""

    speed_mps: float
    free_m: float  # ahead of the bumper
    reason: str
    left: State
    right: State

    def __str__(self) -> str:
        return (
            f"{self.speed_mps:4.1f} m/s: {self.free_m:.1f} m ahead, then {self.reason}; "
            f"left {self.left.name.lower()}, right {self.right.name.lower()}"
        )


def decide(space: KnownSpace, age_s: float = AGE_S) -> Decision:
    """The greatest speed from which the vehicle stops before what is occupied, or not known to be free.

    Obstacles count from the bumper on.  `age_s` is the time since the grid's stamp: the vehicle has moved since, and
    goes on until the next grid.
    """
    height = HIGH_M - LOW_M
    middle_m = (LOW_M + HIGH_M) / 2
    start_m = FRONT_M + BLIND_M
    bumper, seen = (OrientedBox((x + 0.25, 0.0, middle_m), (0.5, WIDTH_M, height)) for x in (FRONT_M, start_m))
    ahead = space.ahead(bumper, (1.0, 0.0, 0.0), REACH_M)
    gap_m = space.ahead(seen, (1.0, 0.0, 0.0), REACH_M - BLIND_M).unknown_m
    unknown_m = BLIND_M + gap_m if gap_m > 0 else 0.0  # where nothing is seen, nothing was
    free_m = min(ahead.occupied_m, unknown_m, REACH_M)
    if free_m == REACH_M:
        reason = "as far as was asked"
    elif unknown_m < ahead.occupied_m:
        reason = "unknown"
    else:
        assert ahead.obstacle is not None
        reason = space.labels.names[space.class_id[ahead.obstacle]]
        if space.instance_id is not None and space.instance_id[ahead.obstacle]:
            reason += f" {space.instance_id[ahead.obstacle]}"
    # The way while it waits, age_s + PATIENCE_S, and the way that it brakes make stop_m.
    stop_m = max(0.0, free_m - MARGIN_M)
    lost_mps = BRAKING_MPS2 * (max(0.0, age_s) + PATIENCE_S)
    speed_mps = min(TOP_MPS, math.sqrt(lost_mps * lost_mps + 2 * BRAKING_MPS2 * stop_m) - lost_mps)
    beside = [OrientedBox((start_m + 2.0, y, middle_m), (4.0, WIDTH_M, height)) for y in (3.2, -3.2)]
    return Decision(speed_mps, free_m, reason, space.box(beside[0]), space.box(beside[1]))


def from_bag(path: Path, node: str, trust_unseen: bool, cdr: Path | None) -> Iterator[tuple[int, Decision]]:
    """Stamp and decision for every grid that a node left in a bag; with `cdr`, their bytes go there too.

    Raises:
        BagError: the bag cannot be read, or has no grids of this node, or none that can be used.
    """
    labels_topic, grids_topic = f"/{node}/labels", f"/{node}/occupancy"
    labels, number = None, 0
    with BagReader(path) as bag:
        missing = {labels_topic, grids_topic} - set(bag.topics)
        if missing:
            raise BagError(f"{path}: there is no {sorted(missing)[0]}; say --node for a node of another name")
        for raw in bag.messages((labels_topic, grids_topic)):
            if raw.topic == labels_topic:
                labels = recorded_labels(bag, raw)
                name = "labels.cdr"
            elif labels is None:
                raise BagError(f"{path}: a grid comes before {labels_topic}: record the label set too")
            else:
                name = f"{number:05d}.cdr"
                number += 1
            if cdr is not None:
                (cdr / name).write_bytes(raw.data)
            if raw.topic == grids_topic and labels is not None:
                message = bag.deserialise(raw)
                try:
                    space = known_space(message, labels, ignored=ground_ids(labels), trust_unseen=trust_unseen)
                except ValueError as error:
                    raise BagError(f"{path}: {grids_topic}: {error}") from error
                yield stamp_ns(message.header.stamp), decide(space)


def planner_node(node: str, trust_unseen: bool) -> Any:
    """A ROS node that decides on every grid, and publishes the speed."""
    from panoocc.msg import LabelSet as LabelSetMessage
    from panoocc.msg import VoxelGrid
    from rclpy.node import Node
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from std_msgs.msg import Float64

    class Planner(Node):
        def __init__(self) -> None:
            super().__init__("planner")
            self.labels: LabelSet | None = None
            self.publisher = self.create_publisher(Float64, "~/speed_mps", 1)
            latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            self.create_subscription(LabelSetMessage, f"{node}/labels", self.on_labels, latched)
            self.create_subscription(VoxelGrid, f"{node}/occupancy", self.on_grid, 1)  # the newest counts
            self.patience = self.create_timer(PATIENCE_S, self.stop)

        def on_labels(self, message: Any) -> None:
            try:
                self.labels = labels_from_message(message)
            except ValueError as error:
                self.get_logger().error(f"{node}/labels cannot be used: {error}")

        def on_grid(self, message: Any) -> None:
            if self.labels is None:
                self.get_logger().warning(f"no label set on {node}/labels yet", throttle_duration_sec=5.0)
                return
            try:
                ground = ground_ids(self.labels)
                space = known_space(message, self.labels, ignored=ground, trust_unseen=trust_unseen)
            except ValueError as error:
                self.get_logger().error(f"{node}/occupancy cannot be used: {error}", throttle_duration_sec=5.0)
                return
            age_s = (self.get_clock().now().nanoseconds - stamp_ns(message.header.stamp)) / 1e9
            decision = decide(space, age_s)
            self.patience.reset()
            self.publisher.publish(Float64(data=decision.speed_mps))
            self.get_logger().info(f"{age_s:.2f} s ago  {decision}")

        def stop(self) -> None:
            self.publisher.publish(Float64(data=0.0))

    return Planner()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A planner that asks the grids of panoocc how fast it may go.")
    parser.add_argument("bag", type=Path, nargs="?", help="bag with grids; without it, a ROS node that listens")
    parser.add_argument("--node", default="panoocc", help="name of the node that made the grids")
    parser.add_argument("--trust-unseen", action="store_true", help="what the network calls free is, seen or not")
    parser.add_argument("--cdr", type=Path, help="existing folder for the messages' bytes, for planner_loop.cpp")
    options, others = parser.parse_known_args(arguments)
    if options.bag is None:
        import rclpy
        from rclpy.executors import ExternalShutdownException

        rclpy.init(args=["planner", *others])
        with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
            rclpy.spin(planner_node(options.node, options.trust_unseen))
        return 0
    if others:
        parser.error(f"unknown arguments: {' '.join(others)}")
    speeds = []
    try:
        for stamp, decision in from_bag(options.bag, options.node, options.trust_unseen, options.cdr):
            print(f"{stamp / 1e9:.3f} s  {decision}")
            speeds.append(decision.speed_mps)
    except (BagError, OSError) as error:
        print(f"planner_loop: {error}", file=sys.stderr)
        return 1
    print(f"{len(speeds)} grids, {np.mean(speeds) if speeds else 0:.1f} m/s on average")
    return 0


if __name__ == "__main__":
    sys.exit(main())
