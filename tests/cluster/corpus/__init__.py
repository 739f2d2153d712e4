"""The corpus of manifests for which models and API server have the same verdict; its format:
templates.yaml."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
MANY = re.compile(r"(.)\*(\d+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Case:
    """A manifest and its verdict."""

    kind: str
    name: str
    verdict: str
    """`accepted`, `refused`, or `later`: rejected by the models alone."""
    field: str
    server: str
    """The field as the API server names it."""
    manifest: dict[str, Any]

    def placed(self, namespace: str) -> "Case":
        """The same case in an existing namespace."""
        metadata = {**self.manifest["metadata"], "namespace": namespace}
        spec = _replaced(self.manifest["spec"], namespace)
        return replace(self, manifest={**self.manifest, "metadata": metadata, "spec": spec})

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


@cache
def cases() -> tuple[Case, ...]:
    """Every case of every kind."""
    return tuple(_read())


def _read() -> Iterator[Case]:
    for file in sorted(FOLDER.glob("*.yaml")):
        # the C loader, because three test files read all cases at collection
        smallest, *documents = yaml.load_all(file.read_text(), yaml.CSafeLoader)
        for one in documents:
            spec = {**smallest["spec"], **_expanded(one.get("change", {}))}
            for field in one.get("remove", ()):
                del spec[field]
            manifest = {
                "apiVersion": "postroom.dev/v1alpha1",
                "kind": smallest["kind"],
                "metadata": {"name": _expanded(one.get("name", "case"))},
                "spec": spec,
            }
            field = one.get("field", "")
            yield Case(
                smallest["kind"], one["case"], one["verdict"], field, one.get("server", field), manifest
            )


def _expanded(value: Any) -> Any:
    """Expand `x*300` in every text, and `{times: 9, of: a#}` in every list."""
    if isinstance(value, str):
        return MANY.sub(lambda found: found[1] * int(found[2]), value)
    if isinstance(value, dict):
        return {name: _expanded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_expanded(each) for entry in value for each in _copies(entry)]
    return value


def _copies(entry: Any) -> Iterator[Any]:
    if not (isinstance(entry, dict) and "times" in entry):
        yield entry
        return
    for number in range(entry["times"]):
        yield _numbered(entry["of"], str(number))


def _numbered(value: Any, number: str) -> Any:
    if isinstance(value, dict):
        return {name: _numbered(each, number) for name, each in value.items()}
    return value.replace("#", number) if isinstance(value, str) else value


def _replaced(value: Any, namespace: str) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(each, namespace) for name, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, namespace) for each in value]
    return value.replace("NAMESPACE", namespace) if isinstance(value, str) else value
