#!/usr/bin/env bash
# Builds this checkout as a ROS package into the workspace .ros, with the Python of .venv.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

# Build from a clean environment: a workspace that lies on its own search path finds stale copies of itself.
if [ "${1:-}" != inside ]; then
    exec env -u PANOOCC_ENVIRONMENT PANOOCC_WITHOUT_WORKSPACE=1 tools/ros_env.sh tools/colcon_build.sh inside
fi

command -v colcon >/dev/null || {
    echo "build: there is no colcon; install it: sudo apt install python3-colcon-common-extensions" >&2
    exit 1
}

# The package is reached through a link: CMake refuses to export include folders (NumPy's, in .venv) that lie below a
# package's own source folder.
mkdir -p .ros/src
ln -sfn ../.. .ros/src/panoocc
packages=(.ros/src/panoocc)
ros_brings() {
    local prefix
    while read -rd : prefix; do
        [ -f "$prefix/share/$1/package.xml" ] && return
    done <<<"$AMENT_PREFIX_PATH:"
    return 1
}
for name in tf2_msgs vision_msgs; do
    ros_brings "$name" || packages+=("test/interfaces/$name")
done

export COLCON_HOME=$root/.ros/colcon
colcon --log-base .ros/log build --merge-install --build-base .ros/build --install-base .ros/install \
    --paths "${packages[@]}" --cmake-args -Wno-dev -DBUILD_TESTING=OFF -DCMAKE_BUILD_TYPE=Release \
    -DPython3_EXECUTABLE="$root/.venv/bin/python" -DPython3_FIND_VIRTUALENV=ONLY
