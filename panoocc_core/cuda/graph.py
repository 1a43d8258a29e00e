"""Whole steps of a network as CUDA graphs: thousands of launches become one.

A graph reads its input from buffers and writes its output to memory of its own, so that neither new calibrations nor a
cleared memory nor other motions concern it: what changes are numbers in buffers.  There is a graph for every form of
input (the number of recalled states, the kinds of lenses) and every choice of outputs.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import count
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from ..base.devices import full_float32, is_out_of_memory, with_index
from ..base.tensor_trees import form_of, mapped, tensors_in
from ..config import ModelConfig
from ..step import Executor, Stage, StepInput, StepOutput, Wanted
from .kernels import CudaError

T = TypeVar("T")
MAX_GRAPHS = 32  # states and outputs in all their numbers are fewer; more would be lenses that change
WARM_UPS = 2  # steps before one is captured: libraries choose their algorithms, kernels are compiled


class Recorder(Protocol):
    """Makes a function without arguments repeatable: what it gave, and what computes that again in the same memory."""

    def __call__(self, function: Callable[[], T]) -> tuple[T, Callable[[], None]]: ...


class GraphRecorder:
    """CUDA graphs on one device, which share one pool of memory: one of them runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = with_index(device)
        self._stream = torch.cuda.Stream(self._device)
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                function()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads, which decode or upload, may allocate memory meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            output = function()
        return output, graph.replay


@dataclass(frozen=True, slots=True, eq=False)
class _Graph:
    buffers: tuple[Tensor, ...]  # of the input, in the order of `tensors_in`
    output: StepOutput  # overwritten by every replay
    replay: Callable[[], None]


class CapturedSteps:
    """Takes the steps of an executor by replaying them; of one thread.

    Every output is a copy, which later steps leave alone.

    Args:
        executor: of which operators and parameters stay where they are; its configuration is asked, never kept.
        record: for tests; None: CUDA graphs.
    """

    def __init__(self, executor: Executor, record: Recorder | None = None) -> None:
        self._executor = executor
        self._record = GraphRecorder(executor.device) if record is None else record
        self._graphs: dict[object, _Graph] = {}
        self._buffers: dict[object, Tensor] = {}  # shared by the graphs

    @property
    def config(self) -> ModelConfig:
        """That of the network, as it is now."""
        return self._executor.config

    @property
    def device(self) -> torch.device:
        """Where inputs are taken and outputs given."""
        return self._executor.device

    @property
    def graphs(self) -> int:
        """How many there are by now."""
        return len(self._graphs)

    @torch.inference_mode()
    @full_float32()
    def step(self, inputs: StepInput, wanted: Wanted, stage: Stage = nullcontext) -> StepOutput:
        """One step; pure, without gradients.

        Raises:
            CudaError: the network cannot be captured; the text says why.
        """
        gives_boxes = self.config.panoptic.instances == "boxes"
        wanted = Wanted(instances=wanted.instances and gives_boxes, visible=False, logits=wanted.logits)
        key = wanted, form_of(inputs)
        graph = self._graphs.get(key)
        with stage("network"):
            if graph is None:
                graph = self._captured(key, inputs, wanted)
            else:
                _fill(graph.buffers, inputs)
            graph.replay()
            return mapped(graph.output, Tensor.clone)

    def prepare(self, inputs: StepInput, wanted: Wanted) -> None:
        """Capture what steps like this one will need until the history is full, so that none of them takes longer.

        Args:
            inputs: of a step without history.

        Raises:
            CudaError: as `step`.
        """
        state = inputs.states[0] if inputs.states else self.step(inputs, wanted).state
        for states in range(len(self.config.temporal.ages_s) + 1):
            motions = inputs.motions.new_zeros((states, *inputs.motions.shape[1:]))
            self.step(replace(inputs, states=(state,) * states, motions=motions), wanted)

    def forget(self) -> None:
        """Give up all graphs and their memory; the next steps capture theirs anew."""
        self._graphs.clear()
        self._buffers.clear()

    def _captured(self, key: object, inputs: StepInput, wanted: Wanted) -> _Graph:
        if len(self._graphs) >= MAX_GRAPHS:
            self.forget()
        places = count()
        static = mapped(inputs, lambda tensor: self._buffer(next(places), tensor))
        buffers = tuple(tensors_in(static))
        _fill(buffers, inputs)
        try:
            output, replay = self._record(lambda: self._executor.step(static, wanted, nullcontext))
        except Exception as error:
            self.forget()
            if is_out_of_memory(error):
                raise
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            raise CudaError(f"a step of {self.config.name} cannot be captured as a CUDA graph: {text}") from error
        graph = self._graphs[key] = _Graph(buffers, output, replay)
        return graph

    def _buffer(self, place: int, like: Tensor) -> Tensor:
        key = place, form_of(like)
        if key not in self._buffers:
            self._buffers[key] = torch.empty_like(like)
        return self._buffers[key]


def _fill(buffers: tuple[Tensor, ...], inputs: StepInput) -> None:
    for buffer, tensor in zip(buffers, tensors_in(inputs), strict=True):
        buffer.copy_(tensor, non_blocking=True)
