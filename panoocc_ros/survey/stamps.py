"""When the images of cameras come: how often, how evenly, and how far from those of another camera.  Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from panoocc_core.geometry import NS_PER_S

_FEW = 3  # stamps, below which nothing is said
_WORST = 95  # percent


@dataclass(frozen=True, slots=True)
class Timing:
    """The images of one camera, by their stamps."""

    count: int
    rate_hz: float | None = None  # None: too few
    period_ms: float | None = None  # the usual time between two images
    jitter_ms: float | None = None  # how far 95 % of these times are from it, at most
    delay_ms: float | None = None  # the usual time from the stamp to the arrival


@dataclass(frozen=True, slots=True)
class Offset:
    """How much later than those of a reference a camera's stamps are."""

    usual_ms: float  # the median
    residual_ms: float  # how far 95 % are from it, at most


@dataclass(frozen=True, slots=True)
class Silence:
    """A time without messages, in seconds after the begin of what was looked at."""

    begin_s: float | None  # the last message before it; None: there was none
    end_s: float | None  # the first one after it; None: there was none


def silences(
    arrivals_ns: Sequence[int], span_ns: tuple[int, int], longest_ns: float, longest_at_start_ns: float
) -> tuple[Silence, ...]:
    """The times within a span in which longer than allowed nothing came.

    Args:
        span_ns: begin and end of what was looked at.
        longest_at_start_ns: what is allowed before the first message.
    """
    begin_ns, end_ns = span_ns
    inside = sorted({at for at in arrivals_ns if begin_ns < at < end_ns})
    found, last = [], len(inside)
    for k, (before, after) in enumerate(pairwise((begin_ns, *inside, end_ns))):
        is_first, is_last = k == 0 and begin_ns not in arrivals_ns, k == last and end_ns not in arrivals_ns
        if after - before > (longest_at_start_ns if is_first else longest_ns):
            times_s = (before - begin_ns) / NS_PER_S, (after - begin_ns) / NS_PER_S
            found.append(Silence(None if is_first else times_s[0], None if is_last else times_s[1]))
    return tuple(found)


def timing(stamps_ns: Sequence[int], arrivals_ns: Sequence[int]) -> Timing:
    """Rate, jitter and delay of messages by their stamps, and when each came."""
    stamps = np.asarray(stamps_ns, np.int64)
    if not len(stamps):
        return Timing(0)
    delay_ms = float(np.median(np.asarray(arrivals_ns, np.int64) - stamps) * 1e-6)
    intervals = np.diff(np.unique(stamps))
    if len(intervals) < _FEW - 1:
        return Timing(len(stamps), delay_ms=delay_ms)
    period = float(np.median(intervals))
    jitter = float(np.percentile(np.abs(intervals - period), _WORST))
    rate_hz = len(intervals) * NS_PER_S / float(intervals.sum())
    return Timing(len(stamps), rate_hz, period * 1e-6, jitter * 1e-6, delay_ms)


def offset(stamps_ns: Sequence[int], reference_ns: Sequence[int], expected_ms: float = 0.0) -> Offset | None:
    """The distance of each stamp from the nearest one of the reference, where so much is expected; None: too few.

    Args:
        expected_ms: how much later than the reference the camera is said to be.
    """
    reference = np.unique(np.asarray(reference_ns, np.int64))
    stamps = np.unique(np.asarray(stamps_ns, np.int64))
    if len(reference) < _FEW or len(stamps) < _FEW:
        return None
    stamps = stamps - round(expected_ms * 1e6)
    # Every image of the one that has fewer finds a partner.
    if len(stamps) <= len(reference):
        apart, partners = _from_nearest(stamps, reference), reference
    else:
        apart, partners = -_from_nearest(reference, stamps), stamps
    # Before the partners' first image, and after their last, there is none to compare with.
    half = float(np.median(np.diff(partners))) / 2
    apart = apart[np.abs(apart) <= half * 1.02]
    if len(apart) < _FEW:
        return None
    usual = _circular_median(apart, 2 * half)
    residual = (apart - usual + half) % (2 * half) - half
    return Offset(expected_ms + usual * 1e-6, float(np.percentile(np.abs(residual), _WORST)) * 1e-6)


def _from_nearest(stamps: NDArray[np.int64], reference: NDArray[np.int64]) -> NDArray[np.float64]:
    after = np.clip(np.searchsorted(reference, stamps), 1, len(reference) - 1)
    before, later = stamps - reference[after - 1], stamps - reference[after]
    return np.where(np.abs(before) <= np.abs(later), before, later).astype(np.float64)


def _circular_median(values: NDArray[np.float64], turn: float) -> float:
    """The middle of values on a circle: half a period before an image is half a period after another."""
    angles = np.exp(2j * np.pi * values / turn)
    middle = float(np.angle(angles.mean())) / (2 * np.pi) * turn
    centred = (values - middle + turn / 2) % turn - turn / 2
    return (middle + float(np.median(centred)) + turn / 2) % turn - turn / 2
