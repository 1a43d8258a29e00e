"""Steps that are replayed: the same function over the same buffers, whatever happens to calibration and memory."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from panoocc_core import OccupancyStream, load_model
from panoocc_core.base import devices
from panoocc_core.base.tensor_trees import form_of, mapped, tensors_in
from panoocc_core.cuda import compaction as compaction_module
from panoocc_core.cuda import front_end as front_end_module
from panoocc_core.cuda import giving_back
from panoocc_core.cuda import graph as module
from panoocc_core.cuda import staging as staging_module
from panoocc_core.cuda.graph import CapturedSteps
from panoocc_core.cuda.kernels import CudaError
from panoocc_core.cuda.staging import ALIGNMENT, BUFFERS, Staging
from panoocc_core.geometry import rigid
from panoocc_core.optics import LensModel
from panoocc_core.step import Wanted
from panoocc_core.stream import prepare

from .conftest import EGO_FROM_OPTICAL, heading, street_frame

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
RECORDERS = ["stand-in", pytest.param("graph", marks=[pytest.mark.gpu, needs_cuda])]


class StandIn:
    """What CUDA graphs do, done on a CPU: a replay computes the same function of the same buffers into the same memory.

    Between replays buffers and outputs are full of NaN and 255, so that what is not filled, or not copied, shows.
    """

    def __init__(self, fails: Exception | None = None):
        self.recorded, self.replayed, self.fails = 0, 0, fails
        self.poisoned: list[torch.Tensor] = []

    def __call__(self, function):
        if self.fails is not None:
            raise self.fails
        self.recorded += 1
        output = mapped(function(), torch.clone)
        kept = list(tensors_in(output))

        def replay():
            self.replayed += 1
            for place, new in zip(kept, tensors_in(function()), strict=True):
                place.copy_(new)

        self.poisoned += kept
        return output, replay

    @torch.inference_mode()
    def poison(self, captured: CapturedSteps):
        for tensor in (*self.poisoned, *captured._buffers.values()):
            tensor.fill_(float("nan") if tensor.is_floating_point() else 1)


@pytest.fixture(params=RECORDERS)
def place(request):
    """Where steps are replayed, and by what: None is a CUDA graph."""
    is_graph = request.param == "graph"
    return torch.device("cuda" if is_graph else "cpu"), None if is_graph else StandIn()


@pytest.fixture(scope="module")
def small(nano):
    """Few voxels and pixels."""
    return replace(
        nano,
        grid=replace(nano.grid, rows=8, columns=8),
        images=replace(nano.images, height=32, width=64),
    )


@pytest.fixture(scope="module")
def small_model(small):
    return load_model(small, seeded_weights=True)


@pytest.fixture(scope="module", params=["concat", "recurrent"])
def config(request, small):
    """Both state contracts."""
    temporal = replace(small.temporal, kind="recurrent", ages_s=(0.5,), spacing_s=0.1)
    return small if request.param == "concat" else replace(small, temporal=temporal)


def frames():
    """A drive in which a camera is moved, another one gets a lens, one goes blank, the clock jumps, and all is well
    again: (frame, whether the memory is cleared before)."""
    moved = rigid(heading(0) @ EGO_FROM_OPTICAL, np.array([1.2, 0.3, 1.7]))
    for number in range(9):
        frame = street_frame(0.5 * number, x_m=2.0 * number)
        front, *others = frame.cameras
        if number >= 3:
            front = replace(front, ego_from_camera=moved)
        if number == 5:
            front = replace(front, lens=LensModel("equidistant", (0.02, -0.01, 0.0, 0.0)))
        if number == 6:
            others[0] = replace(others[0], is_blank=True)
        yield replace(frame, cameras=(front, *others)), number == 7


def test_a_drive_replayed_is_the_drive_itself(config, place):
    device, recorder = place
    model = load_model(config, seeded_weights=True, device=str(device))
    captured = CapturedSteps(model, recorder)
    plain, replayed = OccupancyStream(model), OccupancyStream(captured)
    results = []
    for frame, is_reset in frames():
        for stream in (plain, replayed):
            if is_reset:
                stream.reset("test")
        want, got = plain.step(frame), replayed.step(frame)
        results.append((want, got))
        if recorder is not None:
            recorder.poison(captured)
    for want, got in results:  # at the end: later steps must have left the results alone
        assert got.history == want.history
        assert torch.equal(got.class_id, want.class_id) and torch.equal(got.confidence, want.confidence)
        assert torch.equal(got.instance_id, want.instance_id)
    for want, got in zip(plain.memory.states, replayed.memory.states, strict=True):
        torch.testing.assert_close(got.tokens, want.tokens, rtol=0, atol=0)
    assert {want.history.reset for want, _ in results} >= {None, "calibration", "test"}
    counts = {len(want.history.ages_s) for want, _ in results}
    assert len(counts) <= captured.graphs <= 2 * len(counts)  # the lens makes others
    if recorder is not None:
        assert recorder.replayed == len(results) and recorder.recorded == captured.graphs


def test_every_choice_of_outputs_has_its_own_graph(small_model, small):
    recorder = StandIn()
    captured = CapturedSteps(small_model, recorder)
    frame = street_frame(0.0)
    inputs = prepare(small, torch.device("cpu"), frame, OccupancyStream(small_model).memory).inputs
    for wanted in (Wanted(), Wanted(visible=False), Wanted(logits=True), Wanted()):
        got, want = captured.step(inputs, wanted), small_model.step(inputs, wanted)
        assert (got.logits is None) == (want.logits is None) and torch.equal(got.class_id, want.class_id)
    assert captured.graphs == recorder.recorded == 2


def test_all_numbers_of_states_are_captured_ahead(config):
    model, recorder = load_model(config, seeded_weights=True), StandIn()
    captured = CapturedSteps(model, recorder)
    stream = OccupancyStream(captured)
    captured.prepare(prepare(config, captured.device, street_frame(0.0), stream.memory).inputs, Wanted())
    before = recorder.recorded
    assert before == len(config.temporal.ages_s) + 1
    for number in range(5):
        stream.step(street_frame(0.5 * number, x_m=2.0 * number))
    assert recorder.recorded == before


def test_lensed_cameras_that_die_need_no_new_graph(small_model, small):
    """Wherever a camera goes blank, and whatever its lens; a blank one sees nothing."""
    recorder, memory = StandIn(), OccupancyStream(small_model).memory
    captured = CapturedSteps(small_model, recorder)
    lenses = [LensModel("equidistant", (0.02, -0.01, 0.0, 0.0)), LensModel("perspective", (-0.2, 0.05, 0.0, 0.0))]
    frame = street_frame(0.0)
    cameras = tuple(replace(one, lens=lenses[place % 2]) for place, one in enumerate(frame.cameras))
    for dead in (set(), {0}, {1, 2}, set(range(len(cameras)))):
        given = tuple(replace(one, is_blank=place in dead) for place, one in enumerate(cameras))
        inputs = prepare(small, captured.device, replace(frame, cameras=given), memory).inputs
        captured.step(inputs, Wanted())
        points = 20 * torch.randn(1000, 3, generator=torch.Generator().manual_seed(1))
        pixels, seen = inputs.projections.pixels(points)
        assert pixels.isfinite().all()
        assert {place for place in range(len(cameras)) if not seen[place].any()} == dead
    assert captured.graphs == recorder.recorded == 1


def test_what_is_captured_is_exact_whoever_asks(small_model, small, monkeypatch):
    """A graph keeps the switches under which it was captured."""
    exact = []
    step = type(small_model).step

    def looking(*args):
        exact.append(devices.full_float32._inside > 0)
        return step(*args)

    monkeypatch.setattr(type(small_model), "step", looking)
    captured = CapturedSteps(small_model, StandIn())
    inputs = prepare(small, captured.device, street_frame(0.0), OccupancyStream(small_model).memory).inputs
    captured.prepare(inputs, Wanted())
    assert exact and all(exact)


def test_buffers_are_shared_and_given_up(small_model, small, monkeypatch):
    captured = CapturedSteps(small_model, StandIn())
    inputs = prepare(small, captured.device, street_frame(0.0), OccupancyStream(small_model).memory).inputs
    captured.step(inputs, Wanted())
    images = [graph.buffers[0].data_ptr() for graph in captured._graphs.values()]
    captured.step(inputs, Wanted(logits=True))
    assert [graph.buffers[0].data_ptr() for graph in captured._graphs.values()] == images * 2
    monkeypatch.setattr(module, "MAX_GRAPHS", 2)
    captured.step(inputs, Wanted(instances=False))
    assert captured.graphs == 1
    captured.forget()
    assert captured.graphs == 0 and not captured._buffers


def test_a_network_that_cannot_be_captured_is_named(small_model, small):
    captured = CapturedSteps(small_model, StandIn(fails=RuntimeError("operation not permitted\nwhile capturing")))
    inputs = prepare(small, captured.device, street_frame(0.0), OccupancyStream(small_model).memory).inputs
    with pytest.raises(CudaError, match="a step of nano cannot be captured as a CUDA graph: RuntimeError: op"):
        captured.step(inputs, Wanted())
    assert not captured.graphs and not captured._buffers


def test_too_little_memory_stays_what_it_is(small_model, small):
    captured = CapturedSteps(small_model, StandIn(fails=torch.OutOfMemoryError("too little")))
    inputs = prepare(small, captured.device, street_frame(0.0), OccupancyStream(small_model).memory).inputs
    with pytest.raises(torch.OutOfMemoryError):
        captured.step(inputs, Wanted())


def test_values_of_one_form_differ_in_numbers_alone():
    one = (torch.zeros(2, 3), None, LensModel("equidistant", (0.0,) * 4), [torch.ones(1)])
    assert form_of(one) == form_of(mapped(one, lambda tensor: tensor + 1))
    assert form_of(one) != form_of((torch.zeros(3, 2), *one[1:]))
    assert form_of(one) != form_of((torch.zeros(3, 2).T, *one[1:]))
    assert form_of(one) != form_of((*one[:2], LensModel("equidistant", (0.1,) * 4), *one[3:]))
    assert [tensor.numel() for tensor in tensors_in(one)] == [6, 1]


def test_many_arrays_go_to_a_device_in_one_copy(device):
    """Odd sizes, nothing at all, other types; more copies than buffers, of which none may overwrite another."""
    staging = Staging(device)
    sent = []
    for number in range(2 * BUFFERS + 1):
        value = (torch.full((3, 5), number, dtype=torch.float64), np.int64(1), torch.zeros(0, 3, 4), torch.ones(7) > 0)
        sent.append((value, staging.sent(value)))
    for value, there in sent:
        for want, got in zip(tensors_in(value), tensors_in(there), strict=True):
            assert got.device.type == device.type and got.dtype == want.dtype and torch.equal(got.cpu(), want)
            assert got.data_ptr() % min(ALIGNMENT, 64) == 0 or not got.numel()


def test_what_is_kept_for_frames_is_given_back(monkeypatch):
    """Page-locked memory, maps and lists of all threads, and what CuPy's pool has."""
    given = []
    pool = SimpleNamespace(free_all_blocks=lambda: given.append("pool"))
    cupy = SimpleNamespace(
        cuda=SimpleNamespace(Device=lambda index: nullcontext()), get_default_memory_pool=lambda: pool
    )
    monkeypatch.setattr(giving_back, "has_cupy", lambda: True)
    monkeypatch.setattr(giving_back, "import_cupy", lambda: cupy)
    device = torch.device("cuda", 0)
    for kept in (staging_module._staging, compaction_module._compaction):
        kept(torch.device("cpu"), 1)
    giving_back.give_back_all(torch.device("cpu"))
    assert staging_module._staging.cache_info().currsize and not given
    giving_back.give_back_all(device)
    caches = staging_module._staging, compaction_module._compaction, front_end_module._front_end
    assert [kept.cache_info().currsize for kept in caches] == [0, 0, 0] and given == ["pool"]
