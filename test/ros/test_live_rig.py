"""`panoocc rig` without a bag: what is published is heard, latched or not, and makes and passes a rig."""

import itertools
import time

import pytest

from test.ros.needs_ros import require_ros

require_ros()

from panoocc_core.config import model_config  # noqa: E402
from panoocc_ros.motion.motion_options import MotionOptions  # noqa: E402
from panoocc_ros.survey.checked import checked, topics_of  # noqa: E402
from panoocc_ros.survey.draft import drafted  # noqa: E402
from panoocc_ros.survey.topic_listener import Listener, listener  # noqa: E402
from test.ros.live import Peer  # noqa: E402
from test.ros.survey_drive import RIG, SurveyDrive  # noqa: E402

pytestmark = pytest.mark.live

TOPICS = topics_of(RIG, MotionOptions())


def test_what_is_published_makes_a_rig_and_passes_the_check():
    """The drive is played from a timer of the node that listens, as slowly as the machine wants: stamps count."""
    peer, drive = Peer(), SurveyDrive(sets=40)
    try:
        messages = drive.messages()
        peer.publish(messages)
        peer.send(messages[:1])  # /tf_static, before anybody listens
        coming = iter(messages[1:])
        peer.node.create_timer(0.005, lambda: peer.send(itertools.islice(coming, 2)))
        heard = Listener(peer.node, None).listen(1.5)
        draft = drafted(heard, model_config("nano"))
        assert {c.name: c.topic for c in draft.rig.cameras} == {c.name: c.topic for c in RIG.cameras}
        assert (draft.rig.base_frame, draft.fixed_frame) == ("base_link", "odom")
        heard = Listener(peer.node, TOPICS).listen(1.0)
        # How evenly messages arrive is the machine's affair.
        faults = [
            text
            for text in checked(heard, draft.rig, model_config("nano")).faults
            if "when its images come" not in text
        ]
        assert faults == [] and set(heard.heard) <= TOPICS
    finally:
        peer.close()


def test_nothing_published_ends_in_time(monkeypatch):
    monkeypatch.setattr("panoocc_ros.survey.topic_listener.WAIT_S", 0.5)
    begin_s = time.monotonic()
    with listener(()) as listening:
        heard = listening.listen(3600.0)
    assert heard.first_image_ns is None and time.monotonic() - begin_s < 60
