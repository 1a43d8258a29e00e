"""Rows: publishers and subscribers that do not fit, parameters, the lifecycle, and a network that fails."""

import time
from contextlib import contextmanager

import rclpy
from lifecycle_msgs.msg import Transition
from panoocc.msg import VoxelGrid
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool, Trigger
from tf2_msgs.msg import TFMessage

from panoocc_ros.ros.graph import qos
from test.faults.fault import CAMERA_TIMEOUT_S, ERROR, WARN, Fault, Says, camera, without
from test.faults.traffic import CAMERAS, image_topic, info_topic, serialised

GRIDS = "/panoocc/occupancy"
GRID_LATE_S = 2.0
DISCOVERY_S = 30.0
BUDGET_MS = 500.0  # a heavy step of the fragile node alone takes more, a sound one far less, also on a busy machine
BACK_S = 60.0  # on a busy machine
ANNOUNCED_S = 2.0  # Fast DDS may announce a newcomer so much later to one process than to another
NONSENSE = {  # one of each type and of each kind of limit
    "tf_timeout_s": "soon",
    "deadline_s": -1.0,
    "reuse_age_s": float("nan"),
    "max_waiting": 0,
    "missing_camera": "pray",
    "seeded_weights": 7,
    "model": "pano_small_occ3d",
    "no_such_parameter": 1,
}


def beside(kind, topic, **profile):
    """A second publisher, of a node of its own; it is there once DDS has told others of it."""

    @contextmanager
    def act(live):
        context = rclpy.Context()
        rclpy.init(context=context)
        node = rclpy.create_node("intruder", context=context)
        node.create_publisher(kind, topic, qos(**profile))
        of_topic = live.peer.node.get_publishers_info_by_topic
        live.until(lambda: "intruder" in {one.node_name for one in of_topic(topic)}, DISCOVERY_S, "discovery by DDS")
        yield
        node.destroy_node()
        rclpy.shutdown(context=context)

    return act


@contextmanager
def latched_info(live):
    """The CameraInfo of a camera was sent once, before the node was there."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("driver", context=context)
    topic = info_topic("CAM_FRONT_RIGHT")
    (event,) = (one for one in live.traffic.events(0) if one.topic == topic)
    node.create_publisher(CameraInfo, topic, qos(latched=True)).publish(serialised(event))
    yield
    node.destroy_node()
    rclpy.shutdown(context=context)


def listening(**profile):
    """A subscriber of the grids that takes none of them; it is there once DDS has told others of it."""

    @contextmanager
    def act(live):
        context = rclpy.Context()
        rclpy.init(context=context)
        node = rclpy.create_node("deaf", context=context)
        node.create_subscription(VoxelGrid, GRIDS, lambda _: None, qos(**profile))
        of_topic = live.peer.node.get_subscriptions_info_by_topic
        live.until(lambda: "deaf" in {one.node_name for one in of_topic(GRIDS)}, DISCOVERY_S, "discovery by DDS")
        yield
        node.destroy_node()
        rclpy.shutdown(context=context)

    return act


@contextmanager
def nonsense(live):
    """Every parameter that cannot be is refused with a sentence that names it."""
    live.answer_s = 0.0
    for name, value in NONSENSE.items():
        begin_s = time.monotonic()
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        (result,) = live.call(SetParameters, "set_parameters", request).results
        of_rclpy = ("Wrong parameter type", "undeclared parameter")  # which refuses these itself, in its own words
        is_named = any(words in result.reason for words in (name, *of_rclpy))
        assert not result.successful and is_named, f"{name} = {value}: {result}"
        live.answer_s = max(live.answer_s, time.monotonic() - begin_s)
    yield


def troubled(word, steps):
    """The network fails for so many steps."""

    @contextmanager
    def act(live):
        live.trouble.write_text(f"{word} {steps}")
        yield
        live.trouble.unlink(missing_ok=True)

    return act


def with_parameters(live, **values):
    """Parameters are set; what is refused fails."""
    parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
    answer = live.call(SetParameters, "set_parameters", SetParameters.Request(parameters=parameters))
    assert all(one.successful for one in answer.results), answer.results


@contextmanager
def beyond_its_budget(live):
    """The network takes longer for a while than a set may, and somebody looks at a picture of every set."""
    pictures, picture = [], "overlay/compressed"
    listener = live.peer.node.create_subscription(CompressedImage, f"/panoocc/{picture}", pictures.append, qos())
    with_parameters(live, frame_budget_ms=BUDGET_MS, overlay_max_rate_hz=0.0)
    live.until(lambda: pictures, DISCOVERY_S, "picture before the load")
    live.trouble.write_text("heavy 99999")
    yield
    live.trouble.unlink(missing_ok=True)
    pictures.clear()
    live.until(lambda: len(pictures) > 2, BACK_S, "pictures after the load")
    left_out = lambda: [one.value for one in live.peer.health["budget"].values if one.key == "left_out_now"]  # noqa: E731
    live.until(lambda: left_out() == [""], BACK_S, "word that they are made again")
    live.peer.node.destroy_subscription(listener)
    with_parameters(live, frame_budget_ms=10_000.0, overlay_max_rate_hz=1.0)  # what was left out stays counted


def activated_again(act):
    """... and the node, which has deactivated itself, is activated."""

    @contextmanager
    def both(live):
        with act(live):
            yield
        live.change_state(Transition.TRANSITION_ACTIVATE)

    return both


@contextmanager
def deactivated(live):
    live.change_state(Transition.TRANSITION_DEACTIVATE)
    yield
    live.change_state(Transition.TRANSITION_ACTIVATE)


@contextmanager
def deactivated_in_mid_step(live):
    live.trouble.write_text("slow 1")
    live.until(lambda: not live.trouble.exists(), 30.0, "step that is slow")
    with deactivated(live):
        yield


@contextmanager
def cleaned_up(live):
    live.change_state(Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
    yield
    live.change_state(Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)


@contextmanager
def killed(live):
    live.node.kill()
    live.restart()
    yield


@contextmanager
def interrupted_in_mid_step(live):
    live.trouble.write_text("slow 1")
    live.until(lambda: not live.trouble.exists(), 30.0, "step that is slow")
    assert live.node.interrupt() == 0 and "Traceback" not in live.node.words, live.node.words[-500:]
    live.restart()
    yield


@contextmanager
def switched_off(live):
    assert live.call(SetBool, "set_enabled", SetBool.Request(data=False)).success
    yield
    assert live.call(SetBool, "set_enabled", SetBool.Request(data=True)).success


@contextmanager
def asked_to_forget(live):
    assert live.call(Trigger, "reset_history", Trigger.Request()).success
    yield


def held(live):
    return live.held()


def paused(live):
    return live.paused()


GRAPH = (
    Fault(
        "two publishers on one topic",
        act=beside(CompressedImage, image_topic("CAM_BACK")),
        after_s=ANNOUNCED_S,
        says=camera("CAM_BACK", WARN, "2 publishers"),
        is_short=True,
    ),
    Fault(
        "publisher of another type",
        act=beside(Image, image_topic("CAM_FRONT_RIGHT")),
        after_s=ANNOUNCED_S,
        says=camera("CAM_FRONT_RIGHT", WARN, "sends sensor_msgs/msg/Image, not"),
    ),
    Fault(
        "QoS of images does not fit",
        act=beside(CompressedImage, image_topic("CAM_FRONT_LEFT"), reliable=False),
        after_s=ANNOUNCED_S,
        says=camera("CAM_FRONT_LEFT", WARN, "RELIABILITY is BEST_EFFORT"),
    ),
    Fault(
        "QoS of CameraInfo does not fit",
        act=beside(CameraInfo, info_topic("CAM_BACK_RIGHT"), reliable=False),
        after_s=ANNOUNCED_S,
        says=camera("CAM_BACK_RIGHT", WARN, "RELIABILITY is BEST_EFFORT"),
    ),
    Fault(
        "QoS of /tf does not fit",
        act=beside(TFMessage, "/tf", reliable=False),
        after_s=ANNOUNCED_S,
        says=Says("transforms", WARN, "RELIABILITY is BEST_EFFORT"),
    ),
    Fault(
        "QoS of /tf_static does not fit",
        act=beside(TFMessage, "/tf_static"),
        after_s=ANNOUNCED_S,
        says=Says("transforms", WARN, "is VOLATILE, not TRANSIENT_LOCAL"),
    ),
    Fault(
        "QoS of the grids does not fit",
        act=listening(latched=True),
        after_s=ANNOUNCED_S,
        says=Says("output", WARN, "DURABILITY is VOLATILE, TRANSIENT_LOCAL is asked for; it gets nothing"),
    ),
    Fault("subscriber that is slow", act=listening(depth=1), note="a reliable one that takes no grid holds up nobody"),
)

PLAYBACK = (
    Fault(
        "playback pauses",
        act=paused,
        says=camera("CAM_FRONT", ERROR, "dead: the last image"),
        after_s=CAMERA_TIMEOUT_S,
        goes_on=False,
        note="the stamps stand too",
    ),
    Fault("messages in a burst", act=held, lasts_s=0.8, goes_on=False, note="after 0.8 s in which none came"),
)

NODE = (
    Fault(
        "parameters set to nonsense",
        act=nonsense,
        is_answered=True,
        note=f"refused with a reason: {', '.join(NONSENSE)}",
    ),
    Fault(
        "history to be forgotten",
        act=asked_to_forget,
        counts=("model/resets.requested by service",),
        resets={"requested by service": 1},
    ),
    Fault("switched off", act=switched_off, says=Says("output", WARN, "set_enabled"), goes_on=False, is_short=True),
    Fault(
        "deactivated",
        act=deactivated,
        says=Says("output", WARN, "the node is inactive"),
        goes_on=False,
        is_new_session=True,
    ),
    Fault(
        "deactivated in mid-step",
        act=deactivated_in_mid_step,
        says=Says("output", WARN, "the node is inactive"),
        goes_on=False,
        is_new_session=True,
    ),
    Fault(
        "cleaned up and configured again",
        act=cleaned_up,
        says=Says("output", WARN, "the node is unconfigured"),
        goes_on=False,
        is_new_session=True,
    ),
    Fault(
        "CameraInfo latched",
        without(info_topic("CAM_FRONT_RIGHT")),
        act=latched_info,
        lasts_s=2.0,
        is_fresh=True,
        note="it is heard although it was sent before the activation, and once",
    ),
    Fault(
        "activated without a camera",
        without(*(topic(name) for name in CAMERAS for topic in (image_topic, info_topic))),
        says=Says("output", WARN, "no image yet on /cam_front"),
        after_s=CAMERA_TIMEOUT_S,
        goes_on=False,
        is_fresh=True,
    ),
)

PROCESS = (
    Fault("SIGKILL and a new start", act=killed, is_new_session=True, note="from its activation on"),
    Fault(
        "SIGINT in mid-step",
        act=interrupted_in_mid_step,
        is_new_session=True,
        note="exit status 0, no traceback; then it is started anew",
    ),
)

NETWORK = (
    Fault(
        "memory full once",
        act=troubled("memory", 1),
        meets_sets=True,
        counts=("model/resets.out_of_memory",),
        resets={"out_of_memory": 1},
        is_short=True,
        note="the same set is tried once more",
    ),
    Fault(
        "memory full",
        act=activated_again(troubled("memory", 99)),
        meets_sets=True,
        says=Says("output", ERROR, "CUDA out of memory"),
        goes_on=False,
        is_new_session=True,
        note="the node deactivates itself, and can be activated",
    ),
    Fault(
        "network gives NaN once",
        act=troubled("nan", 1),
        meets_sets=True,
        counts=("model/resets.non_finite",),
        resets={"non_finite": 1},
        note="the same set is tried once more",
    ),
    Fault(
        "network gives NaN",
        act=activated_again(troubled("nan", 99)),
        meets_sets=True,
        says=Says("output", ERROR, "not finite"),
        goes_on=False,
        is_new_session=True,
        note="the node deactivates itself, and can be activated",
    ),
    Fault(
        "network hangs",
        act=troubled("slow", 1),
        meets_sets=True,
        says=Says("output", WARN, "the worker has been at one set for"),
        after_s=GRID_LATE_S,
        lasts_s=4.5,
        goes_on=False,
        note="a step of 4 s",
    ),
    Fault(
        "steps take longer than the budget",
        act=beyond_its_budget,
        meets_sets=True,
        says=Says("budget", WARN, "left out: overlay/compressed"),
        after_s=4.0,  # half a window of sets
        counts=("budget/left_out.overlay/compressed",),
        is_short=True,
        note="the picture is made again when the load ends",
    ),
)

ROWS = GRAPH + PLAYBACK + NODE + NETWORK + PROCESS
