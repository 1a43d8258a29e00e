"""Two processes with a lane each learn what one process with two lanes learns."""

import os
import socket
from pathlib import Path

import pytest
import torch
from torch import multiprocessing

from panoocc_core.train.processes import ALONE, Processes, joined, own_device
from panoocc_core.train.train_config import OptimiserConfig, TrainConfig

from .toy_training import ALL_NORMS, assert_same_weights, curve_without_seconds, recipe, trained, write_network


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


def learn(rank: int, port: int, network: Path, out: Path, changes: dict) -> None:
    """One of two processes, as torchrun starts them."""
    torch.set_num_threads(1)
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with joined(torch.device("cpu")) as processes:
        assert processes == Processes(rank, 2)
        assert processes.mean(torch.tensor(float(rank))) == 0.5 and processes.any(rank == 1, torch.device("cpu"))
        model = trained(two_lanes(network, 1, **changes), out, processes=processes)
        torch.save(model.state_dict(), out / f"rank{rank}.pt")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_two_processes_learn_what_two_lanes_learn(tmp_path):
    network = write_network(tmp_path)
    (tmp_path / "two").mkdir()
    multiprocessing.spawn(learn, (free_port(), network, tmp_path / "two", {}), nprocs=2)
    one, other = (torch.load(tmp_path / f"two/rank{rank}.pt", weights_only=True) for rank in (0, 1))
    alone = trained(two_lanes(network, 2), tmp_path / "one")
    for name, value in alone.state_dict().items():
        assert torch.equal(one[name], other[name]), name
        torch.testing.assert_close(value, one[name], atol=1e-5, rtol=1e-5, msg=name)
    start = trained(two_lanes(network, 2), tmp_path / "start", stop_after_steps=1)
    with pytest.raises(AssertionError):
        assert_same_weights(start, alone, atol=1e-5, rtol=1e-5)  # more than the tolerance is learned
    assert len(curve_without_seconds(tmp_path / "two")) == len(curve_without_seconds(tmp_path / "one"))


def test_alone_nothing_is_communicated():
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    ALONE.average_gradients([parameter])
    assert torch.equal(parameter.grad, torch.ones(2)) and ALONE.is_first
    assert ALONE.mean(torch.tensor(3.0)) == 3 and not ALONE.any(False, torch.device("cpu"))
    with joined(torch.device("cpu")) as processes:
        assert processes is ALONE


def test_every_process_takes_the_gpu_of_its_local_rank(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device("cuda") == torch.device("cuda", 3) and own_device("cpu") == torch.device("cpu")
    monkeypatch.delenv("LOCAL_RANK")
    assert own_device("cuda:1") == torch.device("cuda", 1)
