"""The page of settings: every environment variable of every program."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from itertools import chain

from pydantic_settings import BaseSettings

import postroom
import postroom_operator
from writers.tables import Words, table


def settings_classes() -> Iterator[type[BaseSettings]]:
    """Every settings class of the programs, by module."""
    halves = (postroom, postroom_operator)
    walks = (pkgutil.walk_packages(half.__path__, f"{half.__name__}.") for half in halves)
    for found in chain.from_iterable(walks):
        if found.name.rsplit(".", 1)[1] == "settings":
            module = importlib.import_module(found.name)
            for value in vars(module).values():
                if (
                    inspect.isclass(value)
                    and issubclass(value, BaseSettings)
                    and value.__module__ == found.name
                ):
                    yield value


def variable(settings: type[BaseSettings], name: str) -> str:
    """The environment variable of a field."""
    alias = settings.model_fields[name].validation_alias
    return str(alias) if alias else f"{settings.model_config.get('env_prefix', '')}{name}".upper()


def settings(words: Words) -> str:
    """Every environment variable of every program; descriptions are the classes' own."""
    lines = [
        "# Settings\n",
        "Each program is one process, configured by environment variables. `postroom up` sets them itself.\n",
    ]
    for each in settings_classes():
        lines += [f"## {each.__name__}\n", inspect.cleandoc(each.__doc__ or "") + "\n"]
        rows = []
        for name, field in each.model_fields.items():
            if not field.description:
                words.missing.append(f"no description of {each.__name__}.{name}")
            default = "**required**" if field.is_required() else f"`{shown_default(field.get_default())}`"
            default = "–" if field.default_factory else default  # its description explains it
            rows.append((f"`{variable(each, name)}`", default, field.description or ""))
        lines.append(table(("Variable", "Default", "Meaning"), rows))
    return "\n".join(lines)


def shown_default(value: object) -> str:
    """A default in the form of an environment variable."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, frozenset | list | tuple) and not hasattr(value, "_fields"):
        return ",".join(map(str, value)) or "empty"
    return "none" if value is None else str(value)
