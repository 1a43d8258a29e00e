#!/usr/bin/env bash
# Runs a command in the ROS environment of this checkout:   tools/ros_env.sh python -m panoocc_ros.node.node
# Without a command it starts a shell there.
#
# An installed ROS 2 is used where there is one: sourced already, or in /opt/ros. Else the wheels in .venv are.
# PANOOCC_ROS=wheels (or system) decides by hand. Messages come from the colcon workspace in .ros, Python code from
# the checkout, so that an edit needs no build. Nothing is written outside the checkout.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

die() { echo "ros_env: $*" >&2; exit 1; }

use_system_ros() {
    if [ -z "${AMENT_PREFIX_PATH:-}" ]; then
        local setup
        setup=$(compgen -G "/opt/ros/${ROS_DISTRO:-*}/setup.bash" | tail -n 1) || true
        [ -n "$setup" ] || die "no ROS 2 is sourced and none is in /opt/ros; source its setup.bash, or set PANOOCC_ROS=wheels"
        source_ros "$setup"
    fi
}

use_wheels() {
    local libraries
    [ -d "$venv/share/rclpy" ] || die "the ROS wheels are not in $venv; run 'make setup' first"
    libraries=$(printf '%s:' "$venv/lib" "$venv"/lib/python3.*/site-packages/ros_*.libs)
    export ROS_DISTRO=jazzy ROS_VERSION=2 ROS_PYTHON_VERSION=3
    export AMENT_PREFIX_PATH=$venv CMAKE_PREFIX_PATH=$venv
    export LD_LIBRARY_PATH=${libraries%:}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export RMW_IMPLEMENTATION=rmw_fastrtps_cpp
    # Libraries are on the path already: the wheels need not start every interpreter twice to put them there.
    export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
    # Every checkout talks on its own domain, so that two of them on one machine do not hear each other.
    : "${ROS_DOMAIN_ID:=$(($(printf %s "$root" | cksum | cut -d ' ' -f 1) % 100 + 1))}"
    export ROS_DOMAIN_ID
}

# Each process takes 134 MB of shared memory under our profile. Containers often have 64 MB in all; there Fast DDS would
# print errors and use the network, so it keeps its own small segment, and we say so.
use_large_shared_memory() {
    local free_mb
    free_mb=$(df --output=avail --block-size=1M /dev/shm 2>/dev/null | tail -n 1 | tr -d ' ') || true
    if [ "${free_mb:-0}" -ge 1024 ]; then
        # Fast DDS 2 (up to Jazzy) knows the first name, Fast DDS 3 the second.
        export FASTRTPS_DEFAULT_PROFILES_FILE=$root/config/fastdds.xml
        export FASTDDS_DEFAULT_PROFILES_FILE=$root/config/fastdds.xml
    else
        echo "ros_env: /dev/shm has ${free_mb:-0} MB, too little for config/fastdds.xml: bursts of images may be lost" \
            "(docker run --shm-size=2g)" >&2
    fi
}

# ROS's own setup files read variables that are not set.
source_ros() {
    set +u
    # shellcheck disable=SC1090
    source "$1"
    set -u
}

# A nested call finds everything in place.
if [ "${PANOOCC_ENVIRONMENT:-}" != "$root" ]; then
    kind=$("$root/tools/ros_kind.sh")
    if [ "$kind" = system ]; then use_system_ros; else use_wheels; fi
    if [ -z "${PANOOCC_WITHOUT_WORKSPACE:-}" ] && [ -f "$root/.ros/install/local_setup.bash" ]; then
        source_ros "$root/.ros/install/local_setup.bash"
        export PANOOCC_ENVIRONMENT=$root
    fi
    export PATH=$venv/bin:$PATH PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
    # Humble knows another name for it.
    if [ "${ROS_DISTRO:-}" = humble ]; then export ROS_LOCALHOST_ONLY=${ROS_LOCALHOST_ONLY:-1}; fi
    export ROS_AUTOMATIC_DISCOVERY_RANGE=${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}
    export ROS_HOME=${ROS_HOME:-$root/.ros/home} ROS_LOG_DIR=${ROS_LOG_DIR:-$root/.ros/log}
    export CYCLONEDDS_URI=${CYCLONEDDS_URI:-file://$root/config/cyclonedds.xml}
    [ -n "${FASTRTPS_DEFAULT_PROFILES_FILE:-}${FASTDDS_DEFAULT_PROFILES_FILE:-}" ] || use_large_shared_memory
fi

[ $# -gt 0 ] || set -- "${SHELL:-bash}"
exec "$@"
