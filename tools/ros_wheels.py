#!/usr/bin/env python3
"""Makes the ROS wheels of a virtual environment usable for building messages.

The wheels' exported CMake files name the Python of the machine that built them. Those paths are rewritten to the
headers and the site-packages of the interpreter that runs this script. Running it again changes nothing.
"""

import re
import sys
import sysconfig
from pathlib import Path

_BUILDER_HEADERS = re.compile(r"/opt/python/cp\d+-cp\d+/include/python\d\.\d+")
_BUILDER_SITE_PACKAGES = re.compile(r"/opt/python/cp\d+-cp\d+/lib/python\d\.\d+/site-packages")


def rewrite(text: str, headers: str, site_packages: str) -> str:
    """`text` with the builder's two folders replaced by ours."""
    text = _BUILDER_HEADERS.sub(lambda _: headers, text)
    return _BUILDER_SITE_PACKAGES.sub(lambda _: site_packages, text)


def main() -> int:
    headers, site_packages = sysconfig.get_path("include"), sysconfig.get_path("purelib")
    exports = sorted((Path(sys.prefix) / "share").glob("*/cmake/*.cmake"))
    if not exports:
        print(f"ros_wheels: no ROS wheels in {sys.prefix}; install requirements/ros-jazzy.txt first", file=sys.stderr)
        return 1
    changed = 0
    for path in exports:
        before = path.read_text()
        after = rewrite(before, headers, site_packages)
        if after != before:
            path.write_text(after)
            changed += 1
    print(f"ros_wheels: {changed} CMake files now name {headers}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
