"""On a machine that is too slow for its images, poses that are there are taken before a set is judged."""

from types import SimpleNamespace

import pytest

from test.ros.needs_ros import require_ros

require_ros()

import rclpy  # noqa: E402

from panoocc_ros.frames.rig import load_rig  # noqa: E402
from panoocc_ros.messages.types import IMU, TRANSFORMS  # noqa: E402
from panoocc_ros.node.inputs import Inputs  # noqa: E402
from panoocc_ros.node.session import Session  # noqa: E402
from panoocc_ros.node.settings import NodeSettings  # noqa: E402
from panoocc_ros.ros.callbacks import Guard  # noqa: E402
from panoocc_ros.ros.graph import message_class, qos  # noqa: E402
from panoocc_ros.ros.throttle import ProblemLog  # noqa: E402
from test.ros.live import Peer  # noqa: E402

pytestmark = pytest.mark.live

POSES = 300  # three seconds at 100 Hz


class Hearer:
    """Counts what comes; a pose is judged as the node judges: with all that has come."""

    def __init__(self):
        self.transforms, self.rates, self.inputs = 0, 0, None

    def on_transforms(self, message, static):
        self.transforms += len(message.transforms)
        self.inputs.drain()  # must not begin anew within itself

    def on_imu(self, message):
        self.rates += 1

    def __getattr__(self, name):
        return lambda *_: None


@pytest.fixture
def heard():
    peer, hearer = Peer(), Hearer()
    node = rclpy.create_node("hearer")
    settings = NodeSettings(seeded_weights=True, imu_topic="/imu")
    guard = Guard(ProblemLog(node.get_logger()), lambda: True)
    hearer.inputs = Inputs(node, load_rig("nuscenes"), settings, hearer, guard)
    yield peer, hearer, node, guard
    hearer.inputs.close()
    node.destroy_node()
    peer.close()


def test_all_poses_that_have_come_are_taken_at_once(heard):
    peer, hearer, node, guard = heard
    kinds = {"/tf": TRANSFORMS, "/imu": IMU}
    publisher = peer.node.create_publisher
    senders = {topic: publisher(message_class(kind), topic, qos(depth=500)) for topic, kind in kinds.items()}
    peer.wait(lambda: all(one.get_subscription_count() for one in senders.values()), "subscriptions")
    transform = message_class("geometry_msgs/msg/TransformStamped")()
    for _ in range(POSES):
        senders["/tf"].publish(message_class(TRANSFORMS)(transforms=[transform]))
        senders["/imu"].publish(message_class(IMU)())

    def drain():
        hearer.inputs.drain()
        return hearer.transforms == hearer.rates == POSES

    peer.spin(0.5)  # DDS has them all by then, or nearly
    hearer.inputs.drain()
    assert hearer.transforms > POSES // 2 and hearer.rates > POSES // 2  # the executor takes one of each at a time
    peer.wait(drain, "all poses", 10.0)
    rclpy.spin_once(node, timeout_sec=0.1)  # there is nothing left for it
    assert hearer.transforms == POSES and not guard.errors and guard.progress.now is None
    assert not hearer.inputs.is_draining


def test_poses_are_taken_before_a_set_is_judged():
    done = []
    session = SimpleNamespace(
        _time=lambda: None,
        _now_ns=lambda: 0,
        _outputs=SimpleNamespace(has_listener=lambda output: False),
        _inputs=SimpleNamespace(drain=lambda: done.append("drained")),
        _assembler=SimpleNamespace(poll=lambda *_: done.append("judged"), sets_formed=0),
        _ledger=SimpleNamespace(formed=lambda sets: None),
        _clouds=None,
    )
    Session.poll(session)
    assert done == ["drained", "judged"]
