"""Sweeps on a real Ray cluster and a real Dask cluster, two workers each, started here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from kvsim.sim.sweep.run import run_sweep
from support.clusters import dask_cluster, ray_cluster, sweep_there
from support.sweeps import bad_grid, ends_badly, grid_of, tree

LIMIT_S = 2.0
CLUSTERS = {"ray": ray_cluster, "dask": dask_cluster}


@pytest.fixture(scope="module", name="cluster", params=CLUSTERS)
def _cluster(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Backend and address."""
    backend = request.param
    if find_spec("ray" if backend == "ray" else "distributed") is None:
        pytest.skip(f"{backend} has no wheel for this Python")
    with (
        tempfile.TemporaryDirectory(prefix="kv", ignore_cleanup_errors=True) as folder,
        CLUSTERS[backend](Path(folder)) as address,
    ):
        yield backend, address


@pytest.fixture(scope="module", name="here")
def _here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cells good and bad, run one after the other without a cluster."""
    folder = tmp_path_factory.mktemp("here")
    grid = grid_of(folder, bad_grid("exits", "hangs", "greedy", "fine"))
    done = run_sweep(grid, str(folder / "out"), jobs=1, timeout_s=LIMIT_S, run=ends_badly)
    assert [one.kind for one in done.failures] == ["crashed", "timed out", "out of memory"]
    return folder


def test_a_cluster_gives_the_same_bytes_as_here(
    cluster: tuple[str, str], here: Path, tmp_path: Path
) -> None:
    backend, address = cluster
    done = sweep_there(
        here / "grid.toml", tmp_path / "there", backend=backend, address=address, timeout_s=LIMIT_S
    )
    assert (done["num_new"], len(done["failures"])) == (2, 3)
    assert tree(tmp_path / "there") == tree(here / "out")
