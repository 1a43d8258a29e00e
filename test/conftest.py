"""How the tests are shared out among processes (`make test JOBS=2`)."""

import pytest

try:
    from xdist.scheduler import LoadFileScheduling
except ImportError:  # pytest alone runs them one after another
    pass
else:

    class OneLiveAtATime(LoadFileScheduling):
        """A file stays in one process, which makes its fixtures once, and all live tests in the same: they have limits
        of time, and each starts a network."""

        def _split_scope(self, nodeid: str) -> str:
            return "live" if "/test_live_" in nodeid else super()._split_scope(nodeid)

    @pytest.hookimpl
    def pytest_xdist_make_scheduler(config, log):
        return OneLiveAtATime(config, log)
