"""The all-reduce's protocol, without processes and without GPUs."""

from __future__ import annotations

from multiprocessing import Pipe
from pathlib import Path
from threading import Thread

import pytest
import torch.distributed as dist

from kvsim.calibration.measure.families.all_reduce import Group, serve


def group_of(*pipes: object) -> Group:
    """A group whose processes are the other ends of these pipes."""
    made = object.__new__(Group)
    made._pipes = list(pipes)  # type: ignore[arg-type]
    return made


def test_the_slowest_gpu_counts() -> None:
    (first, one), (second, two) = Pipe(), Pipe()
    one.send([1.0, 2.0, 3.0])
    two.send([2.0, 1.0, 3.5])
    assert group_of(first, second).measure({"bytes": 8}) == [2.0, 2.0, 3.5]
    assert one.recv() == two.recv() == {"bytes": 8}


def test_what_goes_wrong_on_a_gpu_is_told() -> None:
    first, one = Pipe()
    one.send("no peer access")
    with pytest.raises(RuntimeError, match="no peer access"):
        group_of(first).measure({})


@pytest.mark.skipif(not dist.is_available(), reason="torch was built without torch.distributed")
def test_one_process_serves_points_until_its_pipe_closes(tmp_path: Path) -> None:
    ours, theirs = Pipe()
    address = f"file://{tmp_path / 'group'}"
    thread = Thread(target=serve, args=(0, 1, address, theirs, "gloo"))
    thread.start()
    found = group_of(ours).measure({"bytes": 64, "mode": "eager"})
    assert len(found) >= 20
    assert all(t > 0 for t in found)
    ours.close()
    thread.join(timeout=10)
    assert not thread.is_alive()
