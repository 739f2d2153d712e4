"""The page of the HTTP interfaces: OpenAPI documents of gateway and sandbox in, tables out."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

from postroom.gateway.app import MESSAGE_SCHEMA, create_gateway_app
from postroom.sandbox.app import create_sandbox_app
from writers.tables import Words, table


def http(words: Words) -> str:
    """Every route of both programs, and the fields of a message."""
    gateway = create_gateway_app(MagicMock()).openapi()
    sandbox = create_sandbox_app(MagicMock()).openapi()
    return "\n".join(
        [
            "# HTTP interfaces\n",
            words.of("http", "introduction") + "\n",
            "## Gateway\n",
            words.of("http", "gateway") + "\n",
            table(("Route", "Purpose"), routes(gateway)),
            "### A message\n",
            table(("Field", "Required", "Meaning"), message(words)),
            "## Sandbox\n",
            words.of("http", "sandbox") + "\n",
            table(("Route", "Purpose", "Query"), queries(sandbox)),
        ]
    )


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every documented operation with its method and path."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"`{method.upper()} {path}`", operation


def summary(operation: dict[str, Any]) -> str:
    """The first paragraph of an operation's description, else its summary."""
    return str(operation.get("description") or operation.get("summary", "")).split("\n\n")[0]


def routes(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Routes without their parameters."""
    return [(route, summary(operation)) for route, operation in operations(document)]


def queries(document: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Routes with the names of their query parameters."""
    rows = []
    for route, operation in operations(document):
        names = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
        rows.append((route, summary(operation), ", ".join(f"`{name}`" for name in names)))
    return rows


def message(words: Words) -> Iterator[tuple[str, str, str]]:
    """The fields of `POST /v1/messages`; words.toml describes what the document does not."""
    for name, schema in MESSAGE_SCHEMA["properties"].items():
        text = schema.get("description") or words.of("message", name)
        yield f"`{name}`", "yes" if name in MESSAGE_SCHEMA["required"] else "", text
