"""What a check of a rig has found: of every camera the numbers, of all together the views, and what is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from panoocc_core.types import CameraImage

from .stamps import Offset, Timing

Level = Literal["FAULT", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence that names camera, topic or frame and says what to do; a fault keeps the rig from working well."""

    level: Level
    text: str
    cameras: tuple[str, ...] = ()  # whose it is; empty: of the rig as a whole


@dataclass(slots=True, eq=False)
class CameraReport:
    """What is known of one camera; fields that nothing was heard about are None or empty."""

    name: str
    topic: str = ""
    timing: Timing = field(default_factory=lambda: Timing(0))
    offset: Offset | None = None  # to the reference
    encoding: str = ""
    chain: tuple[str, ...] = ()  # of frames, from the fixed one or the vehicle's to the camera's
    image: CameraImage | None = None  # rectified and upright
    turns: int = 0  # quarter turns counter-clockwise that brought it upright
    seen: float | None = None  # share of the grid's voxels that lie in what the network is given of its images

    @property
    def numbers(self) -> dict[str, Any]:
        """For JSON."""
        times, apart = self.timing, self.offset
        return {
            "topic": self.topic,
            "images": times.count,
            "rate_hz": times.rate_hz,
            "period_ms": times.period_ms,
            "jitter_ms": times.jitter_ms,
            "delay_ms": times.delay_ms,
            "offset_ms": None if apart is None else apart.usual_ms,
            "offset_residual_ms": None if apart is None else apart.residual_ms,
            "encoding": self.encoding,
            "size_hw": None if self.image is None else list(self.image.size_hw),
            "chain": list(self.chain),
            "quarter_turns": self.turns,
            "seen": self.seen,
        }


@dataclass(slots=True, eq=False)
class RigReport:
    """The outcome of a check."""

    cameras: list[CameraReport]
    reference: str = ""
    findings: list[Finding] = field(default_factory=list)
    sets: tuple[int, int] | None = None  # that were complete, of all
    seen: float = 0.0  # share of the grid that some camera sees ...
    seen_twice: float = 0.0  # ... and two or more
    overlaps: Mapping[tuple[str, str], float] = field(default_factory=dict)  # share of the grid that both see

    @property
    def faults(self) -> list[str]:
        """What keeps the rig from working."""
        return [finding.text for finding in self.findings if finding.level == "FAULT"]

    @property
    def faulty(self) -> set[str]:
        """The cameras of faults."""
        return {name for finding in self.findings if finding.level == "FAULT" for name in finding.cameras}

    def fault(self, text: str, *cameras: str) -> None:
        """Something is wrong, with some cameras or with the rig as a whole."""
        self.findings.append(Finding("FAULT", text, cameras))

    def note(self, text: str, *cameras: str) -> None:
        """Something is worth knowing."""
        self.findings.append(Finding("note", text, cameras))

    @property
    def numbers(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "reference": self.reference,
            "cameras": {camera.name: camera.numbers for camera in self.cameras},
            "sets": None if self.sets is None else {"complete": self.sets[0], "all": self.sets[1]},
            "seen": self.seen,
            "seen_twice": self.seen_twice,
            "overlaps": [{"cameras": list(pair), "share": share} for pair, share in self.overlaps.items()],
            "faults": self.faults,
            "notes": [finding.text for finding in self.findings if finding.level == "note"],
        }

    def table(self) -> str:
        """For people: a line for each camera, the views, and what was found."""
        heads = ("camera", "images/s", "jitter", "offset", "encoding", "size", "frames", "sees")
        rows = [heads, *(_row(camera, self.reference) for camera in self.cameras)]
        widths = [max(len(row[k]) for row in rows) for k in range(len(heads))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
        if self.seen:
            lines.append(f"together they see {self.seen:.1%} of the grid, {self.seen_twice:.1%} by two or more")
        pairs = ", ".join(f"{a} and {b} {share:.1%}" for (a, b), share in self.overlaps.items())
        lines += [f"both see: {pairs}"] if pairs else []
        if self.sets is not None:
            lines.append(f"{self.sets[0]} of {self.sets[1]} sets had all images, transforms and CameraInfos")
        lines += [f"{finding.level}: {finding.text}" for finding in self.findings]
        count = len(self.faults)
        return "\n".join([*lines, f"{count} fault{'' if count == 1 else 's'}" if count else "no faults"])


def _row(camera: CameraReport, reference: str) -> tuple[str, ...]:
    times, apart = camera.timing, camera.offset
    size = "" if camera.image is None else f"{camera.image.size_hw[1]}x{camera.image.size_hw[0]}"
    away = "reference" if camera.name == reference else "" if apart is None else f"{apart.usual_ms:+.1f} ms"
    return (
        camera.name,
        "" if times.rate_hz is None else f"{times.rate_hz:.2f}",
        "" if times.jitter_ms is None else f"{times.jitter_ms:.1f} ms",
        away,
        camera.encoding,
        size,
        " > ".join(camera.chain),
        "" if camera.seen is None else f"{camera.seen:.1%}",
    )
