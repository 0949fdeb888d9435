"""Templates as pages: everything escaped, nothing loaded, and only this package's scripts may run.

The page's content security policy names the SHA-256 of the one inline script, so that a script
which came in with a name or a path would not run even if it were not escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .picture import Picture
from .render import inline
from .sort_keys import sort_key

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("tables.js", "copy.js")
"""Sort and filter of tables, the button that copies a command: a page is whole without them."""


def rendered(template: str, values: Mapping[str, object]) -> str:
    """A template of this package with its values, escaped; a value that it lacks is an error."""
    return _environment().get_template(template).render(values)


def unbroken(text: str) -> str:
    """Names such as contiguous-max stay on one line: their hyphens become non-breaking ones."""
    return text.replace("-", "\N{NON-BREAKING HYPHEN}")


def figure_values(picture: Picture, element: str | None = None) -> dict[str, object]:
    """What the templates show of a picture; ``element`` is its drawing where it is there."""
    return {
        "name": picture.name,
        "title": picture.title,
        "caption": picture.caption,
        "drawing": Markup(
            inline(picture) if element is None else element
        ),  # escaped where it is drawn
        "sheet": picture.sheet,
    }


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    environment.globals["script"] = Markup(script)
    environment.globals["script_source"] = script_source(script)
    environment.filters["sort_key"] = sort_key
    return environment


def script_source(script: str) -> str:
    """A script as a content security policy names it: ``sha256-...``."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
