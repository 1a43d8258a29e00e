"""What may happen only so often, and texts that are longer than anybody reads."""

from types import SimpleNamespace

from panoocc_ros.ros.throttle import MAX_TEXT, ProblemLog, RateLimit, bounded


def test_a_rate_limit_opens_after_its_period_and_always_at_rate_zero():
    now = [0.0]
    limit, always = RateLimit(2.0, lambda: now[0]), RateLimit(0.0, lambda: now[0])
    assert limit.open() and not limit.open() and always.open() and always.open()
    now[0] = 0.5
    assert limit.open()


def test_a_problem_is_logged_at_most_once_a_period_and_counted():
    now, lines = [0.0], []
    log = ProblemLog(SimpleNamespace(warning=lines.append, error=lines.append), 5.0, lambda: now[0])
    for number in range(4):
        log.warn("sets", f"lost {number}")
    log.error("failed", "out of memory")
    assert lines == ["lost 0", "out of memory"]
    now[0] = 5.0
    log.warn("sets", "lost again")
    assert lines[2] == "lost again (3 more like it since the last such line)"


def test_long_texts_are_cut():
    assert bounded("short") == "short"
    cut = bounded("x" * 1_000_000)
    assert len(cut) < MAX_TEXT + 50 and "1000000 characters" in cut
