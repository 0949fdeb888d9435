"""Groups of options: declared once, shared by several commands.

A group is a function whose parameters are options and whose value is what they build. A command
decorated with :func:`with_groups` has a parameter for each group and shows all of their options.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from copy import copy
from functools import wraps
from typing import Annotated, Any, get_args, get_type_hints

import typer


def with_groups(**groups: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Replace each named parameter of a command by the options of its group."""

    def decorate(command: Callable[..., Any]) -> Any:
        own = [p for p in _parameters(command) if p.name not in groups]
        members = {name: _parameters(group) for name, group in groups.items()}

        @wraps(command)
        def run(**values: Any) -> Any:
            try:
                built = {
                    name: groups[name](**{p.name: values.pop(p.name) for p in parameters})
                    for name, parameters in members.items()
                }
                return command(**values, **built)
            except ValueError as error:  # the user's input: one sentence, no traceback
                typer.echo(f"Error: {error}", err=True)
                raise typer.Exit(code=2) from None

        parameters = [p for group in members.values() for p in group] + own
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(function, include_extras=True)
    return [
        p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for p in inspect.signature(function).parameters.values()
    ]


def merged(*groups: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Several groups as one: all of their options, all of their values."""
    members = [(group, _parameters(group)) for group in groups]

    def build(**values: Any) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for group, parameters in members:
            built |= group(**{p.name: values[p.name] for p in parameters})
        return built

    everything = [p for _, parameters in members for p in parameters]
    build.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
    build.__annotations__ = {p.name: p.annotation for p in everything}
    return build


def several(group: Callable[..., dict[str, Any]], **kinds: type) -> Callable[..., dict[str, Any]]:
    """The same options, but each that is named takes several values, repeated or in a comma list.

    Its value is a tuple of that kind, in order, each once.

    Raises:
        ValueError: (when called) an empty value, or no whole number where the kind is ``int``.
    """
    parameters = [_listed(p) if p.name in kinds else p for p in _parameters(group)]

    def build(**values: Any) -> dict[str, Any]:
        read = {name: _each(name, values[name], kind) for name, kind in kinds.items()}
        return group(**(values | read))

    build.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    build.__annotations__ = {p.name: p.annotation for p in parameters}
    return build


def _listed(parameter: inspect.Parameter) -> inspect.Parameter:
    option = copy(get_args(parameter.annotation)[1])
    option.help = f"{option.help} Several: a,b."
    return parameter.replace(
        annotation=Annotated[list[str], option], default=[str(parameter.default)]
    )


def _each(name: str, texts: Sequence[str], kind: type) -> tuple[Any, ...]:
    parts = [(text, part.strip()) for text in texts for part in text.split(",")]
    for text, part in parts:
        if not part:
            raise ValueError(f"{name}(={text!r}) must not hold an empty value.")
    try:
        return tuple(dict.fromkeys(kind(part) for _, part in parts))
    except ValueError:
        values = ",".join(texts)
        raise ValueError(f"{name}(={values!r}) must be whole numbers.") from None


def typed(context: typer.Context, values: dict[str, Any]) -> dict[str, Any]:
    """Of a group's values those whose options the user gave."""
    names = {
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) and source.name != "DEFAULT"
    }
    return {k: v for k, v in values.items() if k in names or k.removesuffix("_bytes") in names}


def single(values: dict[str, Any]) -> dict[str, Any]:
    """A group's values where options of several take one.

    Raises:
        ValueError: one of them has more.
    """
    for name, value in values.items():
        if isinstance(value, tuple) and len(value) > 1:
            given = ",".join(str(one) for one in value)
            raise ValueError(f"{name}(={given!r}) must be one value here.")
    return {name: value[0] if isinstance(value, tuple) else value for name, value in values.items()}
