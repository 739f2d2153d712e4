"""The page of the command line: the typer application in, a section for each command out."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer

from postroom.cli.app import app
from writers.tables import Words, table

MARKUP = re.compile(r"\[/?[a-z]+\]")


def command_line(_: Words) -> str:
    """Every command with its arguments and options, in the order of `postroom --help`."""
    group: Any = typer.main.get_command(app)
    lines = ["# Command line\n", plain(group.help)]
    for name, command in commands(group):
        lines += [f"\n## postroom {name}\n", plain(command.help), "", *parameters(command)]
    return "\n".join(lines)


def commands(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every command by its full name, in the order of its groups."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{above}{name} ")
        elif not command.hidden:
            yield f"{above}{name}", command


def plain(text: str | None) -> str:
    """A help text without the markup of rich and the paragraph marks of typer."""
    return MARKUP.sub("", inspect.cleandoc(text or "").replace("\b\n", "").replace("\f", ""))


def parameters(command: Any) -> list[str]:
    """The arguments and options of a command as a table, if it has any."""
    rows = [
        (f"`{name_of(each)}`", shown(each), plain(each.help))
        for each in command.params
        if not each.hidden and each.name != "help"
    ]
    return [table(("Argument or option", "Default", "Meaning"), rows)] if rows else []


def name_of(each: Any) -> str:
    """An argument as in the usage line, an option with the name of its value."""
    if each.param_type_name == "argument":
        return str(each.metavar or each.name.upper())
    return f"{', '.join(each.opts)} {each.metavar}" if each.metavar else ", ".join(each.opts)


def shown(each: Any) -> str:
    """The default, if it means something to a reader."""
    if each.required:
        return "**required**"
    if each.default in (None, False, "", (), []) or callable(each.default):
        return "–"
    return f"`{each.default}`"
