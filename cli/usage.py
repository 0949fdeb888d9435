"""What the parser refuses, in one sentence with the option and its value, like any other error."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup


class OneSentenceGroup(TyperGroup):
    """The top of the command line; usage errors end in one line and exit code 2."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run; as a program (``standalone_mode``) it exits, else it returns."""
        words = list(sys.argv[1:] if args is None else args)
        try:
            outcome = super().main(
                words, prog_name, complete_var, False, windows_expand_args, **extra
            )
        except (KeyboardInterrupt, typer.Abort):
            typer.echo("Interrupted.", err=True)
            sys.exit(130)
        except BrokenPipeError:  # the reader of our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except Exception as error:
            if not standalone_mode or not hasattr(error, "format_message"):
                raise
            typer.echo(_sentence(error, words), err=True)
            sys.exit(2)
        if standalone_mode:
            sys.exit(outcome if isinstance(outcome, int) else 0)
        return outcome


def _sentence(error: Any, words: Sequence[str]) -> str:
    """What a usage error says; the help text where a command was given no words at all."""
    message = str(error.format_message())
    if type(error).__name__ == "NoArgsIsHelpError":
        return message
    options: list[str] = list(getattr(getattr(error, "param", None), "opts", None) or [])
    value = _value_of(options, words)
    if value is None:
        return f"Error: {' '.join(message.split()).rstrip('.?')}."
    why = str(error.message).rstrip(".")
    return f"Error: {options[0]}(={value!r}): {why[:1].lower()}{why[1:]}."


def _value_of(options: Sequence[str], words: Sequence[str]) -> str | None:
    """What was typed after one of these options."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word in options:
            return following
        name, equals, value = word.partition("=")
        if equals and name in options:
            return value
    return None
