#!/usr/bin/env bash
# Prints which ROS 2 this checkout uses: "system" (installed, and sourced or in /opt/ros) or "wheels" (from PyPI, in .venv).
set -euo pipefail
case "${PANOOCC_ROS:-}" in
    system | wheels) echo "$PANOOCC_ROS" ;;
    "")
        if { [ -n "${ROS_DISTRO:-}" ] && [ -n "${AMENT_PREFIX_PATH:-}" ]; } || compgen -G "/opt/ros/*/setup.bash" >/dev/null; then
            echo system
        else
            echo wheels
        fi
        ;;
    *)
        echo "ros_kind: PANOOCC_ROS is '$PANOOCC_ROS'; it may be 'system' or 'wheels'" >&2
        exit 1
        ;;
esac
