"""Keywords of custom resource definitions beyond types and bounds, declared next to the pydantic models.

Metadata for `Annotated` field types (`FieldRule`, `CelRules`, `ListMap`, `ListSet`) puts Kubernetes' own
keywords into the JSON schema of a model: `x-kubernetes-validations`, `x-kubernetes-list-type`.
`CustomResource` holds names and printer columns. The operator's generator makes the CRDs of both.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

JsonSchema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CelRule:
    """One rule in the Common Expression Language that the API server checks when an object is applied."""

    rule: str
    message: str
    field_path: str = ""
    """The field that the error is reported at, relative to the object of the rule: `.smtp`."""
    reason: str = ""
    """The machine-readable reason, such as FieldValueRequired. Empty: FieldValueInvalid."""

    def to_json(self) -> dict[str, str]:
        """The rule as an element of `x-kubernetes-validations`; members that are empty are left out."""
        members = {
            "rule": self.rule,
            "fieldPath": self.field_path,
            "reason": self.reason,
            "message": self.message,
        }
        return {name: text for name, text in members.items() if text}


class CelRules:
    """Metadata of an `Annotated` type: CEL rules of a field whose Python rule is elsewhere."""

    def __init__(self, *rules: CelRule) -> None:
        self._rules = rules

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        schema = handler(core)
        add_cel_rules(schema, self._rules)
        return schema


class FieldRule(CelRules):
    """Metadata of an `Annotated` type: a rule of one field, in Python and in CEL.

    `check` gets the value and returns it, normalized where it normalizes; it raises ValueError, or what
    `rule_error` makes. The CEL rules reject at most what `check` rejects.
    """

    def __init__(self, check: Callable[[Any], Any], *rules: CelRule) -> None:
        super().__init__(*rules)
        self._check = check

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))


@dataclass(frozen=True, slots=True)
class SchemaKeywords:
    """Metadata of an `Annotated` type: keywords of the CRD's schema that pydantic does not check itself."""

    keywords: tuple[tuple[str, Any], ...]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        return {**handler(core), **dict(self.keywords)}


def ListMap(*keys: str) -> SchemaKeywords:  # noqa: N802  used like a type in annotations
    """A list whose elements are identified by these fields, so that server-side apply merges them."""
    return SchemaKeywords((("x-kubernetes-list-type", "map"), ("x-kubernetes-list-map-keys", list(keys))))


ListSet = SchemaKeywords((("x-kubernetes-list-type", "set"),))
"""A list of values, each of which may occur once."""


def add_cel_rules(schema: JsonSchema, rules: Iterable[CelRule]) -> None:
    """Append rules to a schema's `x-kubernetes-validations`."""
    if added := [rule.to_json() for rule in rules]:
        schema["x-kubernetes-validations"] = [*schema.get("x-kubernetes-validations", []), *added]


@dataclass(frozen=True, slots=True)
class PrinterColumn:
    """One column of `kubectl get`."""

    name: str
    json_path: str
    description: str = ""
    type: str = "string"
    priority: int = 0
    """0 is always shown, 1 only with `-o wide`."""


@dataclass(frozen=True, slots=True)
class CustomResource:
    """The parts of a custom resource definition beside its schema."""

    plural: str
    singular: str
    short_names: tuple[str, ...]
    printer_columns: tuple[PrinterColumn, ...]


def ready_columns(ready: str, *own: PrinterColumn) -> tuple[PrinterColumn, ...]:
    """The printer columns of a kind: Ready and its reason, the kind's `own`, age, and the message."""
    condition = '.status.conditions[?(@.type=="Ready")]'
    return (
        PrinterColumn("Ready", f"{condition}.status", ready),
        PrinterColumn("Reason", f"{condition}.reason", "The reason of the Ready condition."),
        *own,
        PrinterColumn("Age", ".metadata.creationTimestamp", type="date"),
        PrinterColumn("Message", f"{condition}.message", "What is wrong, and what to do.", priority=1),
    )
