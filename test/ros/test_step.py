"""One set from messages to an occupancy: what is lost, and what the memory is afterwards."""

from types import SimpleNamespace

import pytest
import torch

from panoocc_core import NonFiniteError, Wanted
from panoocc_ros.frames.sets import Refused
from panoocc_ros.node.step import FAILED_RESET, OUT_OF_MEMORY, Lost, Step, step


class Stream:
    network = SimpleNamespace(config=None, device=torch.device("cpu"))

    def __init__(self, *errors):
        self.errors, self.resets = list(errors), []

    def reset(self, reason):
        self.resets.append(reason)

    def step(self, frame, wanted):
        if self.errors:
            raise self.errors.pop(0)
        self.wanted = wanted
        return SimpleNamespace(timings_ms={"backbone": 2.0})


def assembler(error=None, geometry=None):
    def frame(ready):
        if error is not None:
            raise error
        return ready

    return SimpleNamespace(frame=frame, judge_geometry=lambda *_: geometry)


def test_a_set_becomes_an_occupancy_with_its_times(monkeypatch):
    stream, clock_s = Stream(), iter((7.0, 7.25))  # when it begins, and when it is decoded
    monkeypatch.setattr("panoocc_ros.node.step.time", SimpleNamespace(perf_counter=lambda: next(clock_s)))
    done = step(assembler(), stream, "set", "asked for", Wanted())
    assert isinstance(done, Step) and done.frame == "set" and stream.resets == ["asked for"]
    assert done.times_ms == {"decode": 250.0, "backbone": 2.0}


def test_what_is_wanted_reaches_the_stream():
    stream, wanted = Stream(), Wanted(instances=False, logits=True)
    step(assembler(), stream, "set", None, wanted)
    assert stream.wanted is wanted


def test_a_refused_image_leaves_the_memory_as_it_was():
    stream = Stream()
    done = step(assembler(Refused("image", "CAM_BACK", "corrupt")), stream, "set", None, Wanted())
    assert done == Lost("refused", "camera CAM_BACK: corrupt") and stream.resets == []


ODD = ("CAM_BACK: looking at the sky",)


def test_geometry_is_judged_before_the_network_which_may_fail_for_it():
    done = step(assembler(geometry=ODD), Stream(), "set", None, Wanted())
    assert isinstance(done, Step) and done.geometry == ODD
    assert step(assembler(geometry=ODD), Stream(KeyError()), "set", None, Wanted()) == Lost("failed", "KeyError: ", ODD)


@pytest.mark.parametrize(
    "error, text", [(MemoryError("4 GB"), "MemoryError: 4 GB"), (IndexError("row 7"), "IndexError: row 7")]
)
def test_whatever_a_decoder_raises_is_a_failure_like_that_of_the_network(error, text):
    stream = Stream()
    assert step(assembler(error), stream, "set", None, Wanted()) == Lost("failed", text) and stream.resets == [
        FAILED_RESET
    ]


@pytest.mark.parametrize(
    "error, text",
    [
        (RuntimeError("out of order\nsecond line"), "RuntimeError: out of order"),
        (ValueError("no such camera"), "no such camera"),
        (KeyError(), "KeyError: "),
    ],
)
def test_whatever_fails_the_next_set_meets_no_memory_of_it(error, text):
    stream = Stream(error)
    assert step(assembler(), stream, "set", None, Wanted()) == Lost("failed", text)
    assert stream.resets == [FAILED_RESET]


NOT_FINITE = NonFiniteError("the class logits are not finite")  # for which the stream clears its memory itself
TOO_LITTLE = torch.OutOfMemoryError("tried to allocate 9 GB")


@pytest.mark.parametrize("error, resets", [(NOT_FINITE, []), (TOO_LITTLE, [OUT_OF_MEMORY])])
def test_what_the_history_may_have_caused_is_tried_once_more(error, resets):
    stream = Stream(error)
    assert isinstance(step(assembler(), stream, "set", None, Wanted()), Step) and stream.resets == resets


@pytest.mark.parametrize(
    "error, text, resets",
    [
        (NOT_FINITE, "the class logits are not finite", []),
        (TOO_LITTLE, "OutOfMemoryError: tried to allocate 9 GB", [OUT_OF_MEMORY, FAILED_RESET]),
    ],
)
def test_what_fails_twice_is_hopeless(error, text, resets):
    stream = Stream(error, error)
    lost = step(assembler(), stream, "set", None, Wanted())
    assert lost == Lost("failed", text, is_hopeless=True) and stream.resets == resets


def test_another_failure_the_second_time_is_not():
    stream = Stream(TOO_LITTLE, KeyError())
    assert step(assembler(), stream, "set", None, Wanted()) == Lost("failed", "KeyError: ")
