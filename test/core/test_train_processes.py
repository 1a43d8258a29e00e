"""Two processes with a lane each learn, and go on, as one process with two lanes does."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
import yaml

from panoocc_core.train.loop import TrainingError
from panoocc_core.train.processes import ALONE, Processes, joined, own_device
from panoocc_core.train.snapshot import FILE, SnapshotError
from panoocc_core.train.train_config import OptimiserConfig, TrainConfig
from panoocc_core.train.validation import validate
from panoocc_core.weights.checkpoint import load_published
from panoocc_core.weights.tensor_files import read_tensors
from panoocc_ros.commands.cli import main

from .toy_training import (
    ALL_NORMS,
    STREET_SCALE,
    STREET_SECONDS,
    assert_same_weights,
    curve_without_seconds,
    recipe,
    rendered_streets,
    toy_drives,
    trained,
    write_network,
)

PATIENCE_S = 240


@pytest.fixture(scope="module")
def both() -> Iterator[Callable[..., list]]:
    """Calls a function with rank, port and more in two processes, which live as long as the tests of this file."""
    workers = [ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (1,)) for _ in range(2)]

    def call(job: Callable, *arguments: object) -> list:
        port = free_port()
        running = [worker.submit(job, rank, port, *arguments) for rank, worker in enumerate(workers)]
        return [result.result(PATIENCE_S) for result in running]

    yield call
    for worker in workers:
        worker.shutdown(wait=False, cancel_futures=True)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def as_torchrun(rank: int, port: int, local_rank: int) -> None:
    """The environment of one of two processes."""
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(local_rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


@contextmanager
def one_of_two(rank: int, port: int) -> Iterator[Processes]:
    as_torchrun(rank, port, local_rank=rank)
    with joined(torch.device("cpu")) as processes:
        yield processes


def two_lanes(network: Path, batch: int, **changes) -> TrainConfig:
    """Three steps; with batch norms that keep their statistics, lanes do not feel each other."""
    return recipe(
        network,
        batch=batch,
        epochs=1,
        clip_frames=3,
        fixed_norms=ALL_NORMS,
        optimiser=OptimiserConfig(lr=1e-4),
        **changes,
    )


def learn(rank: int, port: int, network: Path, out: Path) -> dict[str, torch.Tensor]:
    with one_of_two(rank, port) as processes:
        assert processes == Processes(rank, 2, rank)
        assert processes.mean(torch.tensor(float(rank))) == 0.5 and processes.any(rank == 1, torch.device("cpu"))
        return trained(two_lanes(network, 1), out, processes=processes).state_dict()


def test_two_processes_learn_what_two_lanes_learn(both, tmp_path):
    network = write_network(tmp_path)
    one, other = both(learn, network, tmp_path / "two")
    alone = trained(two_lanes(network, 2), tmp_path / "one")
    for name, value in alone.state_dict().items():
        assert torch.equal(one[name], other[name]), name
        torch.testing.assert_close(value, one[name], atol=1e-5, rtol=1e-5, msg=name)
    start = trained(two_lanes(network, 2), tmp_path / "start", stop_after_steps=1)
    with pytest.raises(AssertionError):
        assert_same_weights(start, alone, atol=1e-5, rtol=1e-5)  # more than the tolerance is learned
    assert len(curve_without_seconds(tmp_path / "two")) == len(curve_without_seconds(tmp_path / "one"))


def validated(rank: int, port: int, network: Path, out: Path) -> dict[str, float]:
    """Scores of three drives for two processes, and their training's curve."""
    config = two_lanes(network, 1)
    drives = toy_drives(config, (4, 6, 5))
    with one_of_two(rank, port) as processes:
        model = trained(config, out, validation=drives, processes=processes)
        return validate(model, drives, processes=processes)


def test_two_processes_find_the_scores_that_one_finds(both, tmp_path):
    network, two, one = write_network(tmp_path), tmp_path / "two", tmp_path / "one"
    scores = both(validated, network, two)
    config = two_lanes(network, 2)
    model = trained(config, one, validation=toy_drives(config, (4, 6, 5)))
    # The same network to the bit: two processes add gradients in another order.
    load_published(model, read_tensors(two / "weights.safetensors"), "weights")
    expected = validate(model, toy_drives(config, (4, 6, 5)))
    assert scores == [expected, expected]
    row = (two / "validation.csv").read_text().splitlines()[1]
    assert [float(value) for value in row.split(",")[1:]] == pytest.approx(list(expected.values()), rel=1e-5)
    assert len((one / "validation.csv").read_text().splitlines()) == 2


def resume_apart(rank: int, port: int, network: Path, folder: Path) -> None:
    """Every process has a folder of its own, as on machines that share no disk."""
    own, config = folder / f"machine{rank}", two_lanes(network, 1)
    with one_of_two(rank, port) as processes:
        whole = trained(config, own / "whole", processes=processes)
        trained(config, own / "parts", processes=processes, stop_after_steps=1)
        assert (own / "parts" / FILE).exists() == processes.is_first
        resumed = trained(config, own / "parts", processes=processes, resume=True)
        assert_same_weights(whole, resumed)
        if processes.is_first:
            assert curve_without_seconds(own / "parts") == curve_without_seconds(own / "whole")
        else:  # the machines have changed places
            (own / "lost").mkdir()
            shutil.copy(folder / "machine0/parts" / FILE, own / "lost" / FILE)
        with pytest.raises(TrainingError, match="do not all have the same recipe and drives"):
            trained(config, own / "other", toy_drives(config, (8, 8 + rank)), processes=processes)
        with pytest.raises(SnapshotError, match=r"start the first process \(rank 0\) on the machine that has it"):
            trained(config, own / "lost", processes=processes, resume=True)


def test_processes_without_a_shared_disk_go_on_from_the_snapshot_of_the_first(both, tmp_path):
    both(resume_apart, write_network(tmp_path), tmp_path)


def render_apart(rank: int, port: int, recipe_file: Path, streets: Path, folder: Path) -> int:
    """The first machine has all drives, the second one lacks the first of them."""
    own = folder / f"machine{rank}"
    (own / "streets").mkdir(parents=True, exist_ok=True)
    for path in sorted(streets.glob("*.npz"))[rank:]:
        shutil.copy(path, own / "streets")
    as_torchrun(rank, port, local_rank=0)
    return main(["train", str(recipe_file), "--out", str(own), "--no-progress", "--workers", "1"])


def test_every_machine_renders_the_streets_that_it_lacks(both, tmp_path):
    data = {"kind": "streets", "drives": 2, "validation_drives": 1, "seconds": STREET_SECONDS, "scale": STREET_SCALE}
    settings = {"model": str(write_network(tmp_path)), "data": data, "epochs": 1}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    streets = rendered_streets()[1]
    assert both(render_apart, tmp_path / "recipe.yaml", streets, tmp_path) == [0, 0]
    names = {path.name for path in streets.glob("*.npz")}
    for machine in ("machine0", "machine1"):
        assert {path.name for path in (tmp_path / machine / "streets").iterdir()} == names
    assert (tmp_path / "machine0/weights.safetensors").exists()
    assert not (tmp_path / "machine1/weights.safetensors").exists()
    assert both(render_apart, tmp_path / "recipe.yaml", streets, tmp_path) == [2, 2]  # the first holds a training


def test_alone_nothing_is_communicated():
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    ALONE.average_gradients([parameter])
    ALONE.wait()
    assert torch.equal(parameter.grad, torch.ones(2)) and ALONE.is_first and ALONE.leads_machine
    assert ALONE.mean(torch.tensor(3.0)) == 3 and not ALONE.any(False, torch.device("cpu"))
    assert ALONE.from_first(b"snapshot", torch.device("cpu")) == b"snapshot"
    with joined(torch.device("cpu")) as processes:
        assert processes is ALONE


def test_every_process_takes_the_gpu_of_its_local_rank(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device("cuda") == torch.device("cuda", 3) and own_device("cpu") == torch.device("cpu")
    monkeypatch.delenv("LOCAL_RANK")
    assert own_device("cuda:1") == torch.device("cuda", 1)
