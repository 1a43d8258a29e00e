"""The training: one explicit loop over rounds of clips.

Every lane drives through a clip of its own; a step learns from one frame of every lane, in every process.  Each frame
goes through the stream's own forward pass, so a network learns with the memory that it will have on the road: gradients
stop at the states of earlier frames.  A snapshot lies between two rounds, where no lane has a memory; going on from it
gives the same numbers as never having stopped.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ..base.whole_files import whole_file
from ..ground_truth import Drive, naming_frame
from ..memory import VoxelMemory
from ..network import Network
from ..ops.backend import use_kernels
from ..stream import Encoded, encode
from ..types import Frame
from ..weights.checkpoint import save_published
from ..weights.initial import initialise
from ..weights.tensor_files import CheckpointError
from .augment import InputChange, changed_input, distorted_frame, generator_of, input_change
from .box_samples import BoxSample, BoxSamples, kept_samples
from .class_bias import calibrate
from .clips import Clip, length_of_round, rounds_of_epoch
from .curves import Curves, event_writer
from .loss_config import TERMS
from .matching import NotFiniteError
from .objective import Terms, box_terms, loss_terms
from .optimiser import build_optimiser, lr_share, set_lr, set_training_mode
from .processes import ALONE, Processes
from .snapshot import FILE, Origin, Progress, SnapshotError, drive_list, origin_of, restore_snapshot, save_snapshot
from .targets import Targets, make_targets
from .train_config import TrainConfig
from .validation import SCORES, validate

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
RECIPE, WEIGHTS, CURVE, VALIDATION = "recipe.json", "weights.safetensors", "curve.csv", "validation.csv"


class TrainingError(RuntimeError):
    """The training cannot go on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a training is run, without changing its result."""

    out: Path
    resume: bool = False
    snapshot_every_s: float = 120.0
    stop_after_steps: int | None = None  # the snapshot stays; `resume` goes on
    tensorboard: bool = False
    on_step: Callable[[Progress, int, dict[str, float]], None] = lambda progress, steps, values: None
    on_validation: Callable[[Progress, dict[str, float]], None] = lambda progress, values: None


@dataclass(slots=True)
class _State:
    """All that changes while training."""

    model: Network
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    progress: Progress = field(default_factory=Progress)
    samples: BoxSamples | None = None  # where the box branch alone learns


def train(
    config: TrainConfig,
    model: Network,
    drives: Sequence[Drive],
    validation: Sequence[Drive],
    options: Options,
    processes: Processes = ALONE,
) -> Path:
    """Train a network and write its weights, its curves and snapshots into a folder; returns the weights' path.

    Raises:
        ConfigError: a group fits no parameter, or everything is frozen.
        SnapshotError: the snapshot to go on from does not fit.
        TrainingError: the loss is not finite.
        ValueError: the recipe's kernels are not installed; there are too few clips; or a frame or its truth cannot be
            read, or does not fit the network: the message names drive and frame.
        OSError: the folder cannot be written.
    """
    if config.kernels != "auto":
        use_kernels(config.kernels)
    options.out.mkdir(parents=True, exist_ok=True)
    state = _State(
        model,
        build_optimiser(model, config.optimiser, config.fixed_norms),
        torch.amp.GradScaler(model.device.type, enabled=config.precision == "fp16"),
    )
    learned = drive_list(drives)
    origin = origin_of(config, processes.count, learned, drive_list(validation))
    _check_alike(origin, processes, model.device)
    if options.resume:
        state.progress = _resumed(origin, state, options, processes)
    lanes = config.batch * processes.count
    frames = [count for _, count in learned]
    state.samples = kept_samples(config, model, frames)
    rounds = [rounds_of_epoch(frames, config, lanes, epoch) for epoch in range(config.epochs)]
    steps = [sum(map(length_of_round, epoch)) if config.supervise == "all" else len(epoch) for epoch in rounds]
    curves = _open_curves(config, origin, options, state.progress, processes)
    saved_s = time.monotonic()
    while state.progress.epoch < config.epochs:
        epoch = state.progress.epoch
        for clips in rounds[epoch][state.progress.round :]:
            own = clips[processes.rank :: processes.count]
            frames_of_all = length_of_round(clips)
            _learn_round(config, state, drives, own, frames_of_all, sum(steps), steps[0], options, curves, processes)
            state.progress = replace(state.progress, round=state.progress.round + 1)
            processes.average_statistics(model)
            stops = options.stop_after_steps is not None and state.progress.step >= options.stop_after_steps
            late = time.monotonic() - saved_s > options.snapshot_every_s
            if processes.is_first and (stops or late):
                _save(config, origin, state, options, curves)
                saved_s = time.monotonic()
            if stops:
                _close(curves)
                return options.out / FILE
        state.progress = Progress(epoch + 1, 0, state.progress.step)
        _validate(state, validation, options, curves, processes)
        if processes.is_first:
            _save(config, origin, state, options, curves)
            saved_s = time.monotonic()
    if processes.is_first:
        if config.calibrate:
            options.on_validation(state.progress, calibrate(model, validation))
        _write_weights(config, state, options)  # also because a kill may have come between snapshot and weights
    _close(curves)
    return options.out / WEIGHTS


def _check_alike(origin: Origin, processes: Processes, device: torch.device) -> None:
    """Processes on several machines read their own recipes and data.

    Raises:
        TrainingError: they differ.
    """
    own = json.dumps(asdict(origin)).encode()
    if processes.any(processes.from_first(own, device) != own, device):
        raise TrainingError(
            "the processes do not all have the same recipe and drives; give every machine the same arguments, splits "
            "and data"
        )


def _resumed(origin: Origin, state: _State, options: Options, processes: Processes) -> Progress:
    """How far the snapshot has come, whose state is put in place; the beginning where there is none.

    Only the first process writes snapshots, and the others may run on machines that do not share its disk: so all of
    them go on from what the first one has.
    """
    path, device = options.out / FILE, state.model.device
    exists = path.exists()
    data = processes.from_first(path.read_bytes() if exists and processes.is_first else None, device)
    if processes.any(exists and data is None, device):
        raise SnapshotError(
            f"{path}: the first process has no snapshot, but another one has; start the first process (rank 0) on the "
            "machine that has it, or delete it to begin anew"
        )
    if data is None:
        return Progress()
    return restore_snapshot(data, path, origin, state.model, state.optimiser, state.scaler)


def start_from_scratch(model: Network, config: TrainConfig) -> Network:
    """The network with initial weights that follow from the recipe's seed."""
    initialise(model, config.seed)
    return model


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    """A frame that one lane comes to in a round."""

    drive: Drive
    key: tuple[int, int]  # numbers of drive and frame
    lane: int  # among those of all processes
    number: int  # of the frame in the round
    learns: bool  # else it is history


def _learn_round(
    config: TrainConfig,
    state: _State,
    drives: Sequence[Drive],
    clips: Sequence[Clip],
    frames: int,
    steps: int,
    steps_per_epoch: int,
    options: Options,
    curves: Sequence[Curves],
    processes: Processes,
) -> None:
    """Drive through one clip a lane, step by step."""
    set_training_mode(state.model, config.optimiser, config.fixed_norms)
    learn = _learn_frame if state.samples is None else partial(_learn_boxes, state.samples)
    opened = [drives[clip.drive] for clip in clips]
    memories = [VoxelMemory() for _ in clips]
    began_s = time.perf_counter()
    for number in range(frames):
        learns = config.supervise == "all" or number == frames - 1
        values: dict[str, float] = {}
        for own, (clip, drive) in enumerate(zip(clips, opened)):
            key, lane = (clip.drive, clip.index(number + clip.frames - frames)), own * processes.count + processes.rank
            turn = _Turn(drive, key, lane, number, learns)
            memories[own], terms = learn(config, state, turn, memories[own], processes)
            for name, value in terms.items():
                values[name] = values.get(name, 0.0) + value / len(clips)
        if not learns:
            continue
        share = lr_share(state.progress.step, steps, steps_per_epoch, config.schedule)
        set_lr(state.optimiser, config.optimiser.lr * share)
        values["grad_norm"] = _take_step(config, state, processes)
        values |= {"lr": config.optimiser.lr * share, "seconds": time.perf_counter() - began_s}
        if curves:
            curves[0].add(state.progress.step, values)
            options.on_step(state.progress, steps, values)
        state.progress = replace(state.progress, step=state.progress.step + 1)
        began_s = time.perf_counter()


def _read(config: TrainConfig, state: _State, turn: _Turn) -> tuple[Frame, Targets | None, InputChange]:
    """The frame of a turn, what is to be learned from it, and how the network's input is changed."""
    model, index = state.model.config, turn.key[1]
    random = generator_of(config.seed, state.progress.step, turn.lane, turn.number)
    with naming_frame(turn.drive, index):
        frame = distorted_frame(turn.drive.frame(index), config.augment, random)
        placed = model.placed(frame.ego_from_network)
        targets = make_targets(turn.drive.truth(index), placed, state.model.device) if turn.learns else None
    return frame, targets, input_change(config.augment, turn.learns, model.images.padded_hw, random)


def _learn_frame(
    config: TrainConfig, state: _State, turn: _Turn, memory: VoxelMemory, processes: Processes
) -> tuple[VoxelMemory, dict[str, float]]:
    """Gradients of one frame; the memory after it and the values of the loss terms."""
    model = state.model
    frame, targets, change = _read(config, state, turn)
    if targets is None:  # as published: history is encoded without gradients, in evaluation mode
        model.eval()
        with torch.no_grad():
            after = _encoded(config, model, frame, memory, change).memory
        set_training_mode(model, config.optimiser, config.fixed_norms)
        return after, {}
    step = _encoded(config, model, frame, memory, change)
    with _autocast(config, model):
        logits = model.decode(step.fused)
    boxes = model.detect(step.fused.float()) if config.losses.uses_boxes else None
    with _naming_step(state):
        terms = loss_terms(logits, boxes, targets, config.losses, model.config, processes.mean)
    return step.memory, _gradients(config, state, terms, processes)


def _learn_boxes(
    samples: BoxSamples, config: TrainConfig, state: _State, turn: _Turn, memory: VoxelMemory, processes: Processes
) -> tuple[VoxelMemory, dict[str, float]]:
    """Gradients of the box branch alone in one frame, as `_learn_frame`; what is frozen is kept in `samples`."""
    if turn.key not in samples:
        frame, targets, _ = _read(config, state, turn)
        memory, samples[turn.key] = _sample(config, state.model, frame, targets, memory)
    sample = samples[turn.key]
    boxes = state.model.boxes_in(sample.box_map.to(state.model.device).float())
    with _naming_step(state):
        terms = box_terms(boxes, sample.targets, config.losses, processes.mean)
    return memory, _gradients(config, state, terms, processes)


@torch.no_grad()
def _sample(
    config: TrainConfig, model: Network, frame: Frame, targets: Targets | None, memory: VoxelMemory
) -> tuple[VoxelMemory, BoxSample]:
    """What the box branch learns from in one frame, and the memory after it."""
    model.eval()
    with _autocast(config, model):
        step = encode(model, frame, memory)
    set_training_mode(model, config.optimiser, config.fixed_norms)
    if targets is None or targets.boxes is None:
        raise ValueError("losses: box_class and box_l1 need boxes in the truth")
    return step.memory, BoxSample(model.box_map(step.fused).half().cpu(), targets.boxes)


@contextmanager
def _naming_step(state: _State) -> Iterator[None]:
    try:
        yield
    except NotFiniteError as error:
        raise TrainingError(f"step {state.progress.step}: {error}; lower optimiser.lr") from error


def _gradients(config: TrainConfig, state: _State, terms: Terms, processes: Processes) -> dict[str, float]:
    """Gradients of the sum of the terms are added to those that are there; the values of terms and sum."""
    loss = torch.stack(list(terms.values())).sum()
    if processes.any(not bool(torch.isfinite(loss)), state.model.device):
        broken = ", ".join(f"{name} {float(value.detach()):g}" for name, value in terms.items())
        raise TrainingError(f"the loss is not finite at step {state.progress.step} ({broken}); lower optimiser.lr")
    state.scaler.scale(loss / config.batch).backward()
    return {**_summed(terms), "loss": float(loss.detach())}


def _encoded(config: TrainConfig, model: Network, frame: Frame, memory: VoxelMemory, change: InputChange) -> Encoded:
    with _autocast(config, model):
        return encode(model, frame, memory, lambda inputs: changed_input(inputs, change, model.config.images))


def _autocast(config: TrainConfig, model: Network) -> AbstractContextManager[object]:
    half = HALF.get(config.precision)
    return nullcontext() if half is None else torch.autocast(model.device.type, half)


def _summed(terms: dict[str, torch.Tensor]) -> dict[str, float]:
    """Values by name; those of several decoder layers are added."""
    out: dict[str, float] = {}
    for name, value in terms.items():
        name = name.split(".")[0]
        out[name] = out.get(name, 0.0) + float(value.detach())
    return out


def _take_step(config: TrainConfig, state: _State, processes: Processes) -> float:
    """Move the weights along the mean gradient; returns the gradient's norm before clipping."""
    parameters = [p for p in state.model.parameters() if p.requires_grad]
    processes.average_gradients(parameters)  # before the scaler looks at them: all processes must find the same
    state.scaler.unscale_(state.optimiser)
    norm = float(nn.utils.clip_grad_norm_(parameters, config.optimiser.clip_norm))
    if not math.isfinite(norm) and not state.scaler.is_enabled():  # the scaler leaves such a step out
        raise TrainingError(f"the gradient is not finite at step {state.progress.step}; lower optimiser.lr")
    state.scaler.step(state.optimiser)
    state.scaler.update()
    state.optimiser.zero_grad(set_to_none=True)
    return norm


def _open_curves(
    config: TrainConfig, origin: Origin, options: Options, progress: Progress, processes: Processes
) -> tuple[Curves, ...]:
    if not processes.is_first:
        return ()
    with whole_file(options.out / RECIPE) as part:
        part.write_text(origin.recipe + "\n")
    columns = ["loss", *TERMS, "lr", "grad_norm", "seconds"]
    events = event_writer(options.out, progress.step) if options.tensorboard else None
    return (
        Curves(options.out / CURVE, columns, progress.step, events),
        Curves(options.out / VALIDATION, SCORES[config.model_config.truth], progress.step, events),
    )


def _close(curves: Sequence[Curves]) -> None:
    for curve in curves:
        curve.close()


def _validate(
    state: _State, drives: Sequence[Drive], options: Options, curves: Sequence[Curves], processes: Processes
) -> None:
    if not drives:
        return
    values = validate(state.model, drives, processes=processes)
    if curves:
        curves[1].add(state.progress.step - 1, values)
        options.on_validation(state.progress, values)


def _save(config: TrainConfig, origin: Origin, state: _State, options: Options, curves: Sequence[Curves]) -> None:
    for curve in curves:
        curve.flush()
    _write_weights(config, state, options)
    save_snapshot(options.out, origin, state.progress, state.model, state.optimiser, state.scaler)


def _write_weights(config: TrainConfig, state: _State, options: Options) -> None:
    model, step = state.model, state.progress.step
    metadata = {"panoocc_model": model.config.name, "panoocc_recipe": config.name, "step": str(step)}
    try:
        save_published(model, options.out / WEIGHTS, metadata)
    except CheckpointError as error:
        raise OSError(str(error)) from error
