"""Where kernels run: on a GPU where there is one, else in Triton's interpreter, which needs a process of its own."""

import os

import pytest
import torch

INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture
def kernel_device() -> torch.device:
    """The device of tensors that a kernel can be called with.

    Without a GPU, tests that ask for it are run by `test_interpreter.py`, in a process in which Triton interprets.
    """
    if INTERPRETING:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        pytest.skip("test_interpreter.py runs it without a GPU")
    return torch.device("cuda")


@pytest.fixture
def dirty_memory(monkeypatch):
    """Tensors that are taken and not written hold NaN, or 77."""

    def dirty(make):
        def made(*args, **kwargs):
            tensor = make(*args, **kwargs)
            return tensor.fill_(float("nan") if tensor.is_floating_point() else 77)

        return made

    for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, dirty(getattr(owner, name)))
    assert torch.empty(3).isnan().all()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a process that interprets: only what needs it, nothing can be compiled there."""
    if INTERPRETING:
        items[:] = [item for item in items if "kernel_device" in getattr(item, "fixturenames", ())]
