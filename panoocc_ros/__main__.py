"""`python -m panoocc_ros NAME ...`: one of the executables from the checkout, without an installed package."""

import sys

from .ros.signals import run_main

EXECUTABLES = {
    "demo": "demo.run",
    "evaluate_node": "evaluation.node",
    "occupancy_node": "node.node",
    "panoocc": "commands.cli",
    "play_bag": "bags.play",
    "record_bag": "bags.record",
    "sim_node": "sim.node",
}


def main() -> int:
    """Run the executable that the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in EXECUTABLES:
        print(f"usage: python -m {__package__} {{{','.join(EXECUTABLES)}}} ...", file=sys.stderr)
        return 2
    sys.argv[:2] = [name]
    return run_main(f"{__package__}.{EXECUTABLES[name]}")


if __name__ == "__main__":
    sys.exit(main())
