"""A DDS domain for every process that runs these tests: nobody else must hear it, nor it them."""

import fcntl
import os
import random
import tempfile
from pathlib import Path


def _claimed_domain():
    """A domain that no other tests of this machine have, and the locked file that keeps it."""
    for domain in random.SystemRandom().sample(range(1, 102), 101):
        path = Path(tempfile.gettempdir()) / f"panoocc_test_domain_{domain}_{os.getuid()}"
        claim = path.open("w")
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            claim.close()
        else:
            return domain, claim
    raise RuntimeError("all 101 DDS domains are taken by tests that run on this machine")


# Before rclpy looks at them.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
DOMAIN, _CLAIM = _claimed_domain()
os.environ["ROS_DOMAIN_ID"] = str(DOMAIN)
