"""The pages of settings and metrics: what operators of the programs set and watch."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

from pydantic_settings import BaseSettings

import postroom
from writers.tables import Words, table

METRIC_KINDS = {
    "Counter": "counter",
    "Gauge": "gauge",
    "Histogram": "histogram",
    "CounterMetricFamily": "counter",
    "GaugeMetricFamily": "gauge",
}


def settings_classes() -> Iterator[type[BaseSettings]]:
    """Every settings class of the programs, by module."""
    for found in pkgutil.walk_packages(postroom.__path__, "postroom."):
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
        "Each program is one process, configured by its environment. `postroom up` sets these itself.\n",
    ]
    for each in settings_classes():
        lines += [f"## {each.__name__}\n", inspect.cleandoc(each.__doc__ or "") + "\n"]
        rows = []
        for name, field in each.model_fields.items():
            if not field.description:
                words.missing.append(f"no description of {each.__name__}.{name}")
            default = "**required**" if field.is_required() else f"`{shown_default(field.get_default())}`"
            rows.append((f"`{variable(each, name)}`", default, field.description or ""))
        lines.append(table(("Variable", "Default", "What it says"), rows))
    return "\n".join(lines)


def shown_default(value: object) -> str:
    """A default as one would write it in the environment."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, frozenset | list | tuple) and not hasattr(value, "_fields"):
        return ",".join(map(str, value)) or "empty"
    return "none" if value is None else str(value)


def metrics(_: Words) -> str:
    """Every metric that the programs expose, found where the code declares it."""
    rows = sorted(
        found for root in postroom.__path__ for path in Path(root).rglob("*.py") for found in declared(path)
    )
    return (
        "# Metrics\n\n"
        "Each program serves these at `/metrics` in Prometheus' text format. No label holds an address, "
        "an id or any other personal data.\n\n" + table(("Metric", "Kind", "Labels", "What it counts"), rows)
    )


def declared(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """The metrics that one module declares with a literal name and text."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)):
            continue
        kind = METRIC_KINDS.get(node.func.id if isinstance(node.func, ast.Name) else node.func.attr)
        texts = [
            each.value
            for each in node.args[:2]
            if isinstance(each, ast.Constant) and isinstance(each.value, str)
        ]
        if kind and len(texts) == 2 and texts[0].startswith("postroom_"):
            name = f"{texts[0]}_total" if kind == "counter" else texts[0]
            yield f"`{name}`", kind, ", ".join(f"`{label}`" for label in labels(node)) or "–", texts[1]


def labels(call: ast.Call) -> list[str]:
    """The label names of a metric's declaration."""
    given = call.args[2] if len(call.args) > 2 else None
    named = [each.value for each in call.keywords if each.arg in {"labelnames", "labels"}]
    for node in (given, *named):
        if isinstance(node, ast.List | ast.Tuple):
            return [str(each.value) for each in node.elts if isinstance(each, ast.Constant)]
    return []
