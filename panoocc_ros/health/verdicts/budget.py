"""What is left out, so that sets take no longer than `frame_budget_ms`."""

from collections.abc import Mapping

from ...load.governor import Spending
from ..recent import HOLD_S
from .health import BUDGET, OK, WARN, Health

SPEND_LESS = "listen to less, set a lower ..._max_rate_hz or a higher frame_budget_ms"
SPEND_MUCH_LESS = "a smaller preset, a faster device, or a higher frame_budget_ms"


def budget_health(spending: Spending) -> Health:
    """WARN while optional outputs are left out, or while the network and the grid alone take more than the budget."""
    values = {"budget_ms": f"{spending.budget_ms:g}"}
    if spending.must_ms is not None and spending.set_ms is not None:
        values |= {"set_ms": f"{spending.set_ms:.1f}", "must_ms": f"{spending.must_ms:.1f}"}
    values["left_out_now"] = _named(spending.dropped)
    values |= {f"left_out.{name}": str(count) for name, count in spending.counts.items()}
    left_out = f"left out: {values['left_out_now']}" if spending.dropped else "nothing optional is left to leave out"
    if not spending.can_hold:
        message = (
            f"the budget of {spending.budget_ms:g} ms cannot be held: the network and ~/occupancy alone take "
            f"{spending.must_ms:.0f} ms a set; {left_out}"
        )
        return Health(BUDGET, WARN, message, values, SPEND_MUCH_LESS)
    must = "" if spending.must_ms is None else f"; the network and ~/occupancy alone take {spending.must_ms:.0f} ms"
    if spending.dropped:
        return Health(BUDGET, WARN, f"to hold {spending.budget_ms:g} ms a set, {left_out}{must}", values, SPEND_LESS)
    if spending.last_drop_age_s is not None and spending.last_drop_age_s <= HOLD_S:
        message = f"outputs were left out {spending.last_drop_age_s:.1f} s ago to hold {spending.budget_ms:g} ms a set"
        return Health(BUDGET, WARN, message + must, values, SPEND_LESS)
    return Health(BUDGET, OK, f"every output is made within {spending.budget_ms:g} ms a set", values)


def _named(dropped: Mapping[str, float]) -> str:
    """`markers (12 s), stage visible (3 s)`."""
    return ", ".join(f"{name} ({lasting_s:.0f} s)" for name, lasting_s in dropped.items())
