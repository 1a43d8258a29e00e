"""Processes that end cleanly: children with log files and time limits, and this one when it is told to go."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LOG_LINES = 15


def environment_on_this_machine() -> dict[str, str]:
    """This process's environment with a DDS domain of its own, on this machine only."""
    alone = {"ROS_DOMAIN_ID": str(random.randint(1, 101)), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    if os.environ.get("ROS_DISTRO") == "humble":  # it knows another name for it, which later ones warn of
        alone["ROS_LOCALHOST_ONLY"] = "1"
    return {**os.environ, **alone}


class ProcessError(RuntimeError):
    """A process ended badly or not in time; the message has the end of its log."""


class Child:
    """One process whose output goes to a log file."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name, self.log = name, log
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                list(command), env=dict(environment), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
            )

    @property
    def code(self) -> int | None:
        """Exit code, or None while it runs."""
        return self._process.poll()

    @property
    def cpu_s(self) -> float:
        """CPU time so far, of all its threads; 0 where the system does not tell, or it has ended."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            return 0.0

    @property
    def memory_mb(self) -> float:
        """Resident memory now; 0 where the system does not tell, or it has ended."""
        try:
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        except (OSError, IndexError):
            return 0.0

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (it wrote nothing)"

    def fail(self, what: str) -> ProcessError:
        """The error to raise, with the end of the log and where the rest is."""
        return ProcessError(f"{self.name} {what}; its last lines ({self.log}):\n{self.tail()}")

    def check(self, allowed: Sequence[int | None] = (None, 0)) -> None:
        """Raises ProcessError when the process has ended with a code that is not allowed."""
        if self.code not in allowed:
            raise self.fail(f"ended with exit code {self.code}")

    def stop(self, timeout_s: float = 10.0) -> int:
        """End it as Ctrl-C does, harder when that does not help; returns the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is not None:
                break
            self._process.send_signal(number)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                continue
        return self._process.wait()


class Children:
    """Processes that are all ended when the `with` block is left, whatever happened."""

    def __init__(self, environment: Mapping[str, str], log_folder: Path) -> None:
        self._environment, self._log_folder = environment, log_folder
        self._children: list[Child] = []

    def __enter__(self) -> "Children":
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self._children):
            child.stop()

    def start(self, name: str, command: Sequence[str]) -> Child:
        """Start a process; its log is `<log folder>/<name>.log`."""
        child = Child(name, command, self._environment, self._log_folder / f"{name}.log")
        self._children.append(child)
        return child

    def wait(
        self, child: Child, timeout_s: float, tick_s: float = 0.2, on_tick: Callable[[], None] = lambda: None
    ) -> None:
        """Wait for the end of one child, and see to it that no other has failed meanwhile.

        Raises:
            ProcessError: a child ended badly, or the time is over.
        """
        end_s = time.monotonic() + timeout_s
        while child.code is None:
            for other in self._children:
                other.check()
            if time.monotonic() > end_s:
                raise child.fail(f"did not end within {timeout_s:g} s")
            on_tick()
            time.sleep(tick_s)
        child.check()
