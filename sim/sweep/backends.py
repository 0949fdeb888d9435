"""Where a sweep's cells run: joblib's backends, on this machine or on a cluster.

``loky`` starts processes here. ``ray`` and ``dask`` send the cells to a cluster, whose machines
must have kvsim installed and see the traces under the same paths; without an address they start
one here.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from joblib import Parallel, delayed, parallel_config
from joblib.parallel import register_parallel_backend

from ..parallel import num_cores

CONNECT_LIMIT_S = 5.0
WORKERS_LIMIT_S = 60.0
"""For the first worker of a cluster that has just been started."""
BACKENDS = ("loky", "ray", "dask")
_PACKAGES = {"ray": ("ray",), "dask": ("dask", "distributed")}

_QUIET: dict[str, Any] = {
    "include_dashboard": False,
    "log_to_driver": False,
    "logging_level": "ERROR",
}
"""Of a Ray cluster that is started or joined."""

Call = Callable[[], Any]
RunAll = Callable[[list[Call]], Iterator[Any]]


@contextmanager
def workers(backend: str, *, jobs: int | None, address: str | None) -> Iterator[RunAll]:
    """A function that runs calls and yields their values as they come.

    Args:
        backend: one of ``BACKENDS``.
        jobs: workers; by default one per core, on a cluster all that there are.
        address: of the cluster: ``tcp://host:8786`` of a Dask scheduler, ``host:6379`` or
            ``ray://host:10001`` of Ray, ``auto`` for the Ray cluster that runs here.

    Raises:
        ValueError: an unknown backend, one that is not installed, a cluster that is not there.
    """
    check_backend(backend, jobs=jobs, address=address)
    opened = {"loky": _loky, "ray": _ray, "dask": _dask}[backend]
    with opened(jobs, address) as settings, parallel_config(**settings):
        yield _run_all


def check_backend(backend: str, *, jobs: int | None, address: str | None) -> None:
    """Refuse, before any work, what cannot be.

    Raises:
        ValueError: as :func:`workers`.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend(={backend!r}) must be one of {', '.join(BACKENDS)}.")
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs(={jobs}) must be > 0.")
    for package in _PACKAGES.get(backend, ()):
        if find_spec(package) is None:
            raise ValueError(
                f"backend(={backend!r}) needs {package}: pip install 'kvsim[{backend}]'."
            )
    if address is None:
        return
    if backend == "loky":
        raise ValueError(f"address(={address!r}) needs backend ray or dask.")
    if address != "auto" or backend == "dask":
        _check_there(address, backend)


def _run_all(calls: list[Call]) -> Iterator[Any]:
    # one by one: a batch would tell of its first call when its last one has ended
    return iter(
        Parallel(batch_size=1, return_as="generator_unordered")(delayed(c)() for c in calls)
    )


@contextmanager
def _loky(jobs: int | None, address: str | None) -> Iterator[dict[str, Any]]:
    yield {"backend": "loky", "n_jobs": jobs or -1}


@contextmanager
def _dask(jobs: int | None, address: str | None) -> Iterator[dict[str, Any]]:
    distributed: Any = import_module("distributed")  # half of it has types
    if address is None:
        here: dict[str, Any] = {"processes": False, "dashboard_address": None}  # cells have theirs
        with (
            distributed.LocalCluster(
                n_workers=jobs or num_cores(), threads_per_worker=1, **here
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield {"backend": "dask", "n_jobs": -1, "client": client}
        return
    try:
        client = distributed.Client(address, timeout=CONNECT_LIMIT_S)
    except (OSError, ValueError) as error:
        raise _not_there(address, "dask", error) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKERS_LIMIT_S)
        except TimeoutError:
            raise ValueError(
                f"address(={address!r}) has a dask scheduler, but no worker came in "
                f"{WORKERS_LIMIT_S:g} s."
            ) from None
        yield {"backend": "dask", "n_jobs": jobs or -1, "client": client}


@contextmanager
def _ray(jobs: int | None, address: str | None) -> Iterator[dict[str, Any]]:
    ray: Any = import_module("ray")
    theirs: Any = import_module("ray.util.joblib.ray_backend").RayBackend
    # which tells of each task as it ends: no need to wait for the last
    ours = type("Backend", (theirs,), {"supports_return_generator": True})
    register_parallel_backend("ray", ours)
    own = not ray.is_initialized()
    if own:
        try:
            ray.init(address=address, num_cpus=None if address else jobs, **_QUIET)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _not_there(str(address), "ray", error) from None
    try:
        yield {"backend": "ray", "n_jobs": jobs or -1}
    finally:
        if own:
            ray.shutdown()


def _check_there(address: str, backend: str) -> None:
    """A cluster's own client may try for minutes."""
    place = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = place.hostname, place.port
    except ValueError:
        host, port = None, None
    if host is None or port is None:
        raise ValueError(f"address(={address!r}) must be HOST:PORT.")
    try:
        socket.create_connection((host, port), timeout=CONNECT_LIMIT_S).close()
    except OSError as error:
        raise _not_there(address, backend, error) from None


def _not_there(address: str, backend: str, error: Exception) -> ValueError:
    said = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
    why = getattr(error, "strerror", None) or said or type(error).__name__
    return ValueError(f"address(={address!r}) has no {backend} cluster: {why}.")
