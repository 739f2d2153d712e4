"""The templates of the corpus, read from their folders; see corpus/README.md."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from postroom.letter.template import EmailLayout, EmailTemplate

FOLDER = Path(__file__).parent / "corpus"


@dataclass(frozen=True, slots=True)
class CorpusCase:
    """One template with what is known about it."""

    name: str
    about: str
    template: EmailTemplate
    layout: EmailLayout | None
    findings: tuple[str, ...] = field(default=())
    """Regular expressions of the findings that are right."""


def names() -> list[str]:
    """Every case, in the order of names."""
    return sorted(path.parent.name for path in FOLDER.glob("*/case.yaml"))


def read_case(name: str) -> CorpusCase:
    """Read one case."""
    folder = FOLDER / name
    case = yaml.safe_load((folder / "case.yaml").read_text(encoding="utf-8"))
    samples = case.get("samples") or {"only": {}}
    spec = {
        "html": _text(folder / "page.html"),
        "css": _text(folder / "style.css"),
        "variables": schema_of(samples.values()),
        "samples": [{"name": name, "data": data} for name, data in samples.items()],
        **case.get("spec", {}),
    }
    return CorpusCase(
        name,
        case["about"],
        make_template(name, {key: value for key, value in spec.items() if value is not None}),
        _layout(folder),
        tuple(case.get("findings", ())),
    )


def make_template(name: str, spec: Mapping[str, Any]) -> EmailTemplate:
    """A template with the fields that every one needs."""
    asked = {"layoutRef": {"name": "page"}} if (FOLDER / name / "layout.html").exists() else {}
    return EmailTemplate.model_validate(
        {
            "apiVersion": "postroom.dev/v1alpha1",
            "kind": "EmailTemplate",
            "metadata": {"name": name},
            "spec": {
                "smtpProfileRef": {"name": "larkfield"},
                "eventTypes": [f"corpus.{name}"],
                "subject": "A letter",
                **asked,
                **spec,
            },
        }
    )


def schema_of(values: Iterable[Any]) -> dict[str, Any]:
    """A schema that allows what the values have in common: every property of all is required."""
    found = list(values)
    if all(isinstance(value, dict) for value in found):
        keys = list(dict.fromkeys(key for value in found for key in value))
        properties = {key: schema_of(value[key] for value in found if key in value) for key in keys}
        return {"type": "object", "properties": properties, "required": keys}
    if all(isinstance(value, list) for value in found):
        items = [item for value in found for item in value]
        return {"type": "array", "items": schema_of(items)} if items else {"type": "array"}
    for kind, name in ((bool, "boolean"), (int, "integer"), ((int, float), "number")):
        if all(isinstance(value, kind) for value in found):
            return {"type": name}
    return {"type": "string"}


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _layout(folder: Path) -> EmailLayout | None:
    html = _text(folder / "layout.html")
    if html is None:
        return None
    css = _text(folder / "layout.css")
    return EmailLayout.model_validate(
        {
            "apiVersion": "postroom.dev/v1alpha1",
            "kind": "EmailLayout",
            "metadata": {"name": "page"},
            "spec": {"html": html, **({"css": css} if css else {})},
        }
    )
