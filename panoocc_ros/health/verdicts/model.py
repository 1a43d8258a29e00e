"""The network, its memory and its device; and the node's own faults."""

from collections.abc import Mapping

from ..ledger import Accounts
from ..recent import HOLD_S
from .health import ERROR, OK, WARN, Health

DEVICE_NOTES = "device_notes"  # key of the values: what is odd about device and precision
CHOOSE_DEVICE = "set device and precision to what is meant"


def model_health(
    facts: Mapping[str, str], is_seeded: bool, accounts: Accounts, memory_bytes: Mapping[str, int]
) -> Health:
    """WARN while the weights are seeded (the voxels mean nothing), or the device is not what may have been meant; ERROR
    while the last step failed.

    Args:
        facts: what does not change while the node runs, at least `model` and `device`; `device_notes` where there are.
        memory_bytes: what the process has taken, by kind (`memory_in_use`).
    """
    values = dict(facts)
    values |= {f"memory_mb.{kind}": f"{size / 1e6:.0f}" for kind, size in memory_bytes.items()}
    values |= {"history_fused": str(accounts.history_fused), "history_s": f"{accounts.history_s:.1f}"}
    values["ego_motion"], values["states_kept"] = accounts.ego_motion, str(accounts.states_kept)
    values["failures"] = str(accounts.failures)
    values |= {f"resets.{reason}": str(count) for reason, count in sorted(accounts.resets.items())}
    if accounts.is_failure:
        return Health("model", ERROR, f"the last step failed: {accounts.problem}", values)
    warnings = ["weights are seeded, not trained: the voxels mean nothing"] if is_seeded else []
    if DEVICE_NOTES in facts:
        warnings.append(facts[DEVICE_NOTES])
    if warnings:
        return Health("model", WARN, "; ".join(warnings), values, "" if is_seeded else CHOOSE_DEVICE)
    return Health("model", OK, f"{facts['model']} on {facts['device']}", values)


def callbacks_health(errors: int, lately: int, last_error: str) -> Health:
    """WARN while callbacks of the node fail: each time a message is lost through a fault of ours."""
    values = {"callback_errors": str(errors)}
    if lately:
        return Health("callbacks", WARN, f"{lately} failed in the last {HOLD_S:.0f} s: {last_error}", values)
    return Health("callbacks", OK, "no callback fails", values)
