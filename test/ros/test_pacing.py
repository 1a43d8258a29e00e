"""Pacing: by the clock, and by sets of images."""

from typing import NamedTuple

import pytest

from panoocc_ros.bags.pacing import Pacer, steps


class Message(NamedTuple):
    topic: str
    stamp_ns: int


IMAGES, TF = frozenset({"/a", "/b"}), frozenset({"/tf"})


def cut(text, lead_ns=0):
    """Sets of a bag written as `a0 b1 t2`: topic letter (t: transforms, i: IMU) and stamp."""
    names = {"a": "/a", "b": "/b", "t": "/tf", "i": "/imu"}
    messages = [Message(names[word[0]], int(word[1:])) for word in text.split()]
    letters = {topic: letter for letter, topic in names.items()}
    return [
        " ".join(f"{letters[message.topic]}{message.stamp_ns}" for message in group)
        for group in steps(messages, IMAGES, TF, lead_ns)
    ]


def test_a_set_ends_where_an_image_topic_comes_again():
    assert cut("t0 a1 b2 t3 a4 i5 b6") == ["t0 a1 b2 t3", "a4 i5 b6"]


def test_a_camera_that_is_missing_or_dead_does_not_hold_up_the_rest():
    assert cut("a1 b2 a4 a7 b8") == ["a1 b2", "a4", "a7 b8"]


def test_transforms_behind_the_cut_come_ahead_of_it_and_nothing_is_lost():
    assert cut("a1 b2 a10 t11 b12 i13 t30 a31", lead_ns=5) == ["a1 b2 t11", "a10 b12 i13 t30", "a31"]


def test_every_message_is_sent_once():
    text = "t0 a1 t2 b3 i3 a4 t5 b6 t7 a8 t9"
    assert sorted(" ".join(cut(text, lead_ns=3)).split()) == sorted(text.split())


def test_a_pacer_waits_by_stamps_and_rate():
    clock = [100.0]
    pacer = Pacer(2.0, now_s=lambda: clock[0])
    assert pacer.wait_s(5_000_000_000) == 0
    assert pacer.wait_s(6_000_000_000) == pytest.approx(0.5)
    clock[0] = 100.75
    assert pacer.wait_s(6_000_000_000) == pytest.approx(-0.25)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_rate_that_makes_no_sense_is_refused(rate):
    with pytest.raises(ValueError, match="rate must be positive"):
        Pacer(rate)
