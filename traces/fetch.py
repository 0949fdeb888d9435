"""Fetching a public trace by name: downloaded, SHA-256 checked, put in place whole."""

import hashlib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path

from .catalogue import CATALOGUE, PublicTrace
from .write import replace_bytes

Progress = Callable[[int, int], None]  # bytes so far, bytes in all

_CHUNK_BYTES = 1 << 16
_TIMEOUT_S = 30.0
_MAX_SURPLUS_BYTES = 1 << 20  # a file this much longer than stated is not the file


def fetch(
    name: str,
    *,
    directory: str | Path,
    catalogue: Mapping[str, PublicTrace] = CATALOGUE,
    base_url: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """The path of trace `name` in `directory`, downloaded unless a good copy is there already.

    `base_url` stands in for the publisher's: BASE/<file name>. `progress(done, total)` is called in
    bytes. Raises ValueError for an unknown name, a failed download, a wrong digest or a bad folder.
    """
    entry = _entry(name, catalogue)
    target = Path(directory) / entry.file_name
    if target.is_file() and _digest(target.read_bytes()) == entry.sha256:
        return target
    url = entry.url if base_url is None else f"{base_url.rstrip('/')}/{entry.file_name}"
    data = _download(name, url, entry.size_bytes, progress)
    if (found := _digest(data)) != entry.sha256:
        raise ValueError(f"{name} from {url} has SHA-256 {found}, expected {entry.sha256}.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(target, data)
    except OSError as error:
        raise ValueError(f"{str(target)!r} cannot be written: {error.strerror}.") from error
    return target


def _entry(name: str, catalogue: Mapping[str, PublicTrace]) -> PublicTrace:
    if name in catalogue:
        return catalogue[name]
    near = get_close_matches(name, catalogue, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise ValueError(f"public trace(={name}) must be one of {', '.join(catalogue)}{hint}.")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _download(name: str, url: str, size_bytes: int, progress: Progress | None) -> bytes:
    from http.client import HTTPException  # slow to import, and only needed here
    from urllib.error import HTTPError
    from urllib.request import urlopen

    data = bytearray()
    try:
        with urlopen(url, timeout=_TIMEOUT_S) as response:
            while chunk := response.read(_CHUNK_BYTES):
                data += chunk
                if progress is not None:
                    progress(len(data), size_bytes)
                if len(data) > size_bytes + _MAX_SURPLUS_BYTES:
                    raise ValueError(f"it is longer than the {size_bytes} bytes expected")
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()  # it is the open reply of the server
        raise ValueError(f"{name} cannot be fetched from {url}: {error}.") from error
    return bytes(data)
