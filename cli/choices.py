"""Options that take several values to choose from: ``--block-size 8,16,32``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from copy import copy
from typing import Annotated, Any, get_args, get_type_hints

_WORDS = {int: "whole numbers", float: "numbers"}


def choices(
    group: Callable[..., dict[str, Any]], **kinds: type | tuple[type, str]
) -> Callable[..., dict[str, Any]]:
    """The same options, but each that is named takes several values in a comma list.

    One value stays that value; several become a tuple. A switch (``bool``) is tried both ways where
    both of its names are given. Beside the kind there may stand what the help text says of several.

    Raises:
        ValueError: (when called) an empty value, one given twice, or one of another kind.
    """
    hints = get_type_hints(group, include_extras=True)
    parameters = [
        p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for p in inspect.signature(group).parameters.values()
    ]
    told = {
        n: kind if isinstance(kind, tuple) else (kind, "Several: a,b.") for n, kind in kinds.items()
    }
    parameters = [_listed(p, *told[p.name]) if p.name in kinds else p for p in parameters]

    def build(**values: Any) -> dict[str, Any]:
        read = {name: _read(name, values[name], kind) for name, (kind, _) in told.items()}
        return group(**(values | read))

    build.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    build.__annotations__ = {p.name: p.annotation for p in parameters}
    return build


def _listed(parameter: inspect.Parameter, kind: type, several: str) -> inspect.Parameter:
    option = copy(get_args(parameter.annotation)[1])
    default = [] if parameter.default is None else [str(parameter.default)]
    if kind is bool:
        words = parameter.name.replace("_", "-")
        option.param_decls = (f"--{words}/--no-{words}",)
        option.help = f"{option.help} Both: compared."
        annotation: Any = Annotated[list[bool], option]
    else:
        option.help = f"{option.help} {several}"
        annotation = Annotated[list[str], option]
    return parameter.replace(annotation=annotation, default=default)


def _read(name: str, texts: Sequence[Any], kind: type) -> Any:
    """None, the value, or a tuple of several."""
    parts = texts if kind is bool else [part.strip() for text in texts for part in text.split(",")]
    values = [_one(name, part, texts, kind) for part in parts]
    if len(set(values)) < len(values):
        given = ",".join(str(value) for value in values)
        raise ValueError(f"{name}(={given!r}) must hold each value once.")
    return tuple(values) if len(values) > 1 else values[0] if values else None


def _one(name: str, part: Any, texts: Sequence[str], kind: type) -> Any:
    if kind is bool:
        return part
    if not part:
        raise ValueError(f"{name}(={','.join(texts)!r}) must not hold an empty value.")
    try:
        return kind(part)
    except ValueError:
        raise ValueError(f"{name}(={','.join(texts)!r}) must be {_WORDS[kind]}.") from None
