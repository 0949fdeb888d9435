"""A trace file's text: gzip is undone (told by its first bytes), a byte-order mark is dropped."""

import gzip
import zlib
from pathlib import Path

GZIP_MAGIC = b"\x1f\x8b"


def read_text(path: str | Path) -> str:
    """The file as text.

    Raises ValueError with one sentence for a missing, unreadable, corrupt or binary file.
    """
    name = Path(path).name
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"trace file {str(path)!r} cannot be read: {error.strerror}.") from error
    if data.startswith(GZIP_MAGIC):
        data = _gunzip(data, name)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 text: byte {error.start} is bad.") from error


def _gunzip(data: bytes, name: str) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name} is a damaged gzip file: {error}.") from error
