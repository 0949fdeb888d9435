"""A picture as bytes: PNG and SVG for files, an element for the page; same input, same bytes.

An SVG keeps text as text and has ids of its own. On the page it also takes its font from there and
names ink, grid and free space as CSS variables, so that one figure is readable on a light and on a
dark page.
"""

from __future__ import annotations

import base64
import html
import io
import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
import matplotlib

from ..sim.files import write_files
from ..sim.parallel import run_each
from .dark import darkened
from .picture import Picture
from .style import FONT_PT, FREE, GRID, INK, QUIET, fresh

PNG_DPI = 160
MAX_SVG_BYTES = 150_000
"""A larger drawing, images within it not counted, is inlined as PNG."""
FILE_FONT = "DejaVu Sans, Helvetica, Arial, sans-serif"
"""Of an SVG that stands alone; the first is the one that the layout was measured with."""

_VARIABLES = {INK: "--ink", QUIET: "--quiet", GRID: "--grid", FREE: "--free"}
_PROLOGUE = re.compile(r"^.*?(?=<svg )|<metadata>.*?</metadata>|<!--.*?-->", re.DOTALL)
_NAMESPACES = re.compile(r'\sxmlns(:\w+)?="[^"]*"')
_IDS = re.compile(r'(\bid="|url\(#|href="#)([^")]+)("|\))')
_PATH = re.compile(r'(?<= d=")[^"]+')
_DECIMALS = re.compile(r"-?\d+(\.\d+)?")
_IMAGE = re.compile(r'(?<=href=")data:[^"]*')
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_FONT = re.compile(r"font-family: [^;\"]+;? ?|(font: [\d.]+px)[^;\"]*|(font: \w+ [\d.]+px)[^;\"]*")


class Drawn(NamedTuple):
    """One picture in each of its forms."""

    element: str
    """For the page."""
    png: bytes
    svg: bytes


def drawn(pictures: Sequence[Picture], *, jobs: int | None = 1) -> dict[str, Drawn]:
    """By name, in every form; ``jobs`` processes, by default this one."""
    if jobs == 1:
        found = [_forms(picture) for picture in pictures]
    else:
        tasks = [(one.name, partial(_forms_of, cloudpickle.dumps(one))) for one in pictures]
        found = run_each(tasks, title="figures", jobs=jobs)
    return {picture.name: forms for picture, forms in zip(pictures, found, strict=True)}


def _forms_of(pickled: bytes) -> Drawn:
    """Of a picture as it was sent to this process."""
    with warnings.catch_warnings():
        # numpy's: a masked array sent here has a fill value of another kind; it is never used
        warnings.simplefilter("ignore", RuntimeWarning)
        return _forms(pickle.loads(pickled))


def _forms(picture: Picture) -> Drawn:
    with fresh():
        return Drawn(inline(picture), png(picture), svg_file(picture))


def png(picture: Picture) -> bytes:
    """The picture with its title above it, on white: a file that stands alone."""
    with _titled(picture):
        return _saved(picture, "png", dpi=PNG_DPI)


def svg_file(picture: Picture) -> bytes:
    """The drawing with its title above it, on white: a file that stands alone."""
    with _titled(picture):
        drawing = _drawn(picture, transparent=False)
    drawing = drawing.replace("var(--font)", FILE_FONT)
    words = f"<title>{_escaped(picture.title)}</title>\n<desc>{_escaped(picture.alt)}</desc>\n"
    head, start, rest = drawing.partition(">\n")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head}{start} {words}{rest.strip()}\n'.encode()


def write_png(draw: Callable[[], Picture], out: str) -> Path:
    """Draw under matplotlib's own defaults and write a PNG; the folder is made where missing.

    Raises:
        ValueError: a name that is no PNG's, or a folder that cannot be written to.
    """
    path = Path(out)
    if path.suffix.lower() != ".png":
        raise ValueError(f"out(={out!r}) must name a .png file.")
    with fresh():
        data = png(draw())
    return write_files(path.parent, {path.name: data})[0]


def inline(picture: Picture) -> str:
    """An ``<svg>`` element, or pixels for a light and a dark page where the drawing is large."""
    drawing = svg(picture)
    if len(_IMAGE.sub("", drawing)) <= MAX_SVG_BYTES:
        return drawing
    light, dark = _pixels(picture, dark=False), _pixels(picture, dark=True)
    return (
        f'<picture><source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img alt="{_escaped(picture.alt)}" src="{light}"></picture>'
    )


def svg(picture: Picture) -> str:
    """The drawing as an element for an HTML page: no title, no background, no namespaces."""
    text = _NAMESPACES.sub("", _drawn(picture, transparent=True)).replace("xlink:href", "href")
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    label = f'<svg role="img" aria-label="{_escaped(picture.alt)}" '
    return text.replace("<svg ", label, 1).strip()


def _pixels(picture: Picture, *, dark: bool) -> str:
    """A PNG without background as a data URI."""
    with darkened(picture.figure) if dark else nullcontext():
        data = _saved(picture, "png", dpi=PNG_DPI, transparent=True)
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


@contextmanager
def _titled(picture: Picture) -> Iterator[None]:
    """Within it, the figure has its title above it: the page has a heading instead."""
    title = picture.figure.suptitle(
        picture.title, x=0.012, ha="left", size=FONT_PT + 1.5, weight="bold", color=INK
    )
    yield
    title.set_text("")
    title.set_in_layout(False)


def _drawn(picture: Picture, *, transparent: bool) -> str:
    """Matplotlib's SVG, shortened: no prologue, no metadata, ids and fonts by name."""
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": picture.name}
    with matplotlib.rc_context(settings):
        text = _saved(picture, "svg", transparent=transparent).decode()
    text = _PROLOGUE.sub("", text)
    text = _PATH.sub(lambda match: _shortened(match[0]), text)
    text = _FONT.sub(lambda match: _font(match[1] or match[2]), text)
    return _renumbered(text, picture.name)


def _saved(picture: Picture, kind: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    picture.figure.savefig(buffer, format=kind, metadata=metadata, **settings)  # type: ignore[arg-type]
    return buffer.getvalue()


def _shortened(path: str) -> str:
    """The same path to a hundredth of a point; level and upright lines name one coordinate."""
    words = _DECIMALS.sub(lambda match: f"{float(match[0]):.2f}", path).split()
    short, index, x, y = [], 0, "", ""
    while index < len(words):
        if words[index] == "L":
            left, (x, y) = (x, y), words[index + 1 : index + 3]
            index += 3
            short.append(f"H{x}" if y == left[1] else f"V{y}" if x == left[0] else f"L{x} {y}")
            continue
        short.append(words[index])
        x, y = (y, words[index]) if not words[index].isalpha() else (x, y)
        index += 1
    return " ".join(short)


def _renumbered(text: str, name: str) -> str:
    """Ids ``<name>-1``, ``-2``, ...: unique on the page, and no hash of coordinates among them."""
    numbers: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        position = numbers.setdefault(match[2], len(numbers) + 1)
        return f"{match[1]}{name}-{position}{match[3]}"

    return _IDS.sub(number, text)


def _font(font: str | None) -> str:
    return f"{font} var(--font)" if font else ""


def _escaped(text: str) -> str:
    """Text for an attribute or an element, of HTML or XML."""
    return html.escape(_UNPRINTABLE.sub(" ", text))
