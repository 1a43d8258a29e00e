"""What becomes of a set that lacks an image."""

from typing import Literal

MissingPolicy = Literal["drop", "reuse_last", "blank"]
MISSING_POLICIES = ("reuse_last", "blank", "drop")
