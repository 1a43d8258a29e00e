"""Whether the node replays its steps: what `cuda_graph` says, and what is said where a step cannot be captured."""

from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch

from panoocc_core import load_model, model_config
from panoocc_core.cameras.lens import LensInfo
from panoocc_core.cuda.kernels import CudaError
from panoocc_core.optics import LensModel
from panoocc_ros.node import loaded as module
from panoocc_ros.node.loaded import warmed_up
from panoocc_ros.ros.parameter_fields import SettingsError


class Log:
    def __init__(self):
        self.warnings = []

    def warning(self, text):
        self.warnings.append(text)


@pytest.fixture(scope="module")
def network():
    nano = model_config("nano")
    small = replace(nano, grid=replace(nano.grid, rows=8, columns=8), images=replace(nano.images, height=32, width=64))
    return load_model(small, seeded_weights=True)


@pytest.fixture
def on_cuda(network):
    """The same network as if it were on CUDA, with nothing that would run there."""
    nothing = SimpleNamespace(step=lambda frame: None, inputs=None)
    with (
        mock.patch.object(type(network), "device", torch.device("cuda")),
        mock.patch.object(module, "OccupancyStream", lambda network: nothing),
        mock.patch.object(module, "prepare", lambda *_: nothing),
    ):
        yield network


@pytest.mark.parametrize("cuda_graph", ["auto", "off"])
def test_on_a_cpu_the_network_takes_its_steps(network, cuda_graph):
    log = Log()
    assert warmed_up(network, cuda_graph, log) is network and not log.warnings


def test_a_graph_that_is_asked_for_needs_cuda(network):
    with pytest.raises(
        SettingsError, match="the network is on cpu, and graphs are of CUDA devices; set cuda_graph"
    ) as told:
        warmed_up(network, "on", Log())
    assert told.value.names == ("cuda_graph",)


def test_on_cuda_steps_are_captured_with_boxes_and_without(on_cuda, monkeypatch):
    steps = SimpleNamespace(
        prepared=[], prepare=lambda inputs, wanted: steps.prepared.append((wanted.instances, wanted.logits))
    )
    monkeypatch.setattr(module, "CapturedSteps", lambda network: steps)
    assert warmed_up(on_cuda, "auto", Log()) is steps and steps.prepared == [(False, False), (True, False)]
    steps.prepared.clear()
    assert warmed_up(on_cuda, "auto", Log(), with_logits=True) is steps  # clouds will be labelled
    assert steps.prepared == [(False, False), (True, False), (False, True), (True, True)]
    assert warmed_up(on_cuda, "off", Log()) is on_cuda


def test_what_cannot_be_captured_is_told_and_runs_operator_by_operator_unless_forbidden(on_cuda, monkeypatch):
    def fails(network):
        raise CudaError("a step of nano cannot be captured as a CUDA graph: it waits")

    monkeypatch.setattr(module, "CapturedSteps", fails)
    log = Log()
    assert warmed_up(on_cuda, "auto", log) is on_cuda
    (warning,) = log.warnings
    assert warning.startswith("the network runs operator by operator: a step of nano cannot be captured")
    with pytest.raises(SettingsError, match="it waits; set cuda_graph to auto or off"):
        warmed_up(on_cuda, "on", log)


def test_only_a_capture_that_fails_falls_back(on_cuda, monkeypatch):
    """What breaks before, in the plain step, is no matter of graphs."""

    def fails(frame):
        raise CudaError("front_end.cu cannot be compiled")

    monkeypatch.setattr(module, "OccupancyStream", lambda network: SimpleNamespace(step=fails))
    with pytest.raises(CudaError, match=r"front_end\.cu"):
        warmed_up(on_cuda, "auto", Log())


def test_a_cupy_of_no_use_is_told_by_its_parameter(monkeypatch):
    def fails(device):
        raise CudaError("front_end.cu cannot be compiled for cuda by CuPy 14: no NVRTC")

    monkeypatch.setattr(module, "front_end_on", fails)
    with pytest.raises(SettingsError, match="no NVRTC; .*or use device cpu") as told:
        module.check_images(torch.device("cuda"))
    assert told.value.names == ("device",)


def test_lenses_that_a_file_has_are_those_of_the_first_step(network):
    names = network.config.cameras
    lens = LensModel("equidistant", (0.1, 0.0, 0.0, 0.0))
    frame = module.black_frame(network.config, {names[1]: lens})
    assert [camera.lens for camera in frame.cameras] == [None, lens, *[None] * (len(names) - 2)]
    k, r, p = np.diag([20.0, 20, 1]), np.eye(3), np.diag([20.0, 20, 1]) @ np.eye(3, 4)
    info = LensInfo(32, 64, "equidistant", np.array(lens.coefficients), k.ravel(), r.ravel(), p.ravel())
    file = SimpleNamespace(infos={names[1]: info})
    cameras = [SimpleNamespace(name=name, is_rectified=False, lens="project") for name in names]
    assert module.lenses_of(file, SimpleNamespace(cameras=cameras)) == {names[1]: lens}
    assert module.lenses_of(None, SimpleNamespace(cameras=cameras)) == {}
