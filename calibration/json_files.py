"""Reads one JSON object from a file that a user named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object.

    Raises:
        ValueError: absent, unreadable, not JSON or not an object.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(f"{path} cannot be read: {reason}.") from None
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path} must hold a JSON object, not a {type(raw).__name__}.")
    return raw
