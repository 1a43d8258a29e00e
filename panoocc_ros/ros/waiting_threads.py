"""How long a thread of torch that has nothing to do keeps its processor busy."""

import os

TURNS = 20_000


def wait_briefly() -> None:
    """To be called before torch is imported.

    GCC's OpenMP lets such a thread turn 300,000 times before it sleeps, 15 ms on some processors, while the threads of
    the compiled operators and of the pool that decodes want to run.  What the environment says of it stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(TURNS))
