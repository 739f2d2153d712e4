"""The CustomResourceDefinitions, generated from the pydantic models of postroom.letter.

Input: the models of EmailTemplate, EmailLayout and SmtpProfile, which declare the fields of the specs with
descriptions, bounds, defaults, CEL rules, names and printer columns. The statuses are declared here, because
only the operator writes them. Output: the files of charts/postroom/files/crds. `make manifests` writes them
(`python -m postroom_operator.crds DIRECTORY`), and tests/operator/test_crds.py fails where they differ.

Failure: a keyword of JSON Schema that is not in KEYWORDS raises ValueError, so that no bound is dropped
silently.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from postroom.letter.custom_resource import ListMap, PrinterColumn
from postroom.letter.profile import SmtpProfile
from postroom.letter.template import EmailLayout, EmailTemplate

GROUP, VERSION = "postroom.dev", "v1alpha1"
HEADER = "# Generated from postroom.letter by `make manifests`. Do not edit.\n"
LINE_CHARACTERS = 110

Schema = dict[str, Any]
Kind: TypeAlias = type[EmailTemplate] | type[EmailLayout] | type[SmtpProfile]

KEYWORDS = (
    *("description", "type", "format", "enum", "default"),
    *("minLength", "maxLength", "pattern", "minimum", "maximum", "minItems", "maxItems", "maxProperties"),
    *("x-kubernetes-preserve-unknown-fields", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
    *("x-kubernetes-validations", "required", "properties", "additionalProperties", "items"),
)
"""The keywords of a schema in a CRD, in the order in which they are written."""
RULE_MEMBERS = ("rule", "fieldPath", "reason", "message")
"""The members of a CEL rule, in the order in which they are written."""
_DROPPED = frozenset({"title", "const"})
"""Keywords of pydantic's schemas without a use here: the API server itself checks apiVersion and kind."""


# --- statuses ------------------------------------------------------------------------------------

Int32 = Annotated[int, Field(ge=0, json_schema_extra={"format": "int32"})]
Int64 = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})]
Line = Annotated[int, Field(json_schema_extra={"format": "int32"})]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
ConditionType = Annotated[
    str,
    Field(
        max_length=316,
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
        r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
    ),
]
Reason = Annotated[
    str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
]
Message = Annotated[str, Field(max_length=32768)]


class StatusSchema(BaseModel):
    """A part of a status; the docstring of a field is its description in the CRD."""

    model_config = ConfigDict(alias_generator=to_camel, use_attribute_docstrings=True, extra="forbid")


class ConditionSchema(StatusSchema):
    """A condition, as metav1.Condition has it."""

    type: ConditionType
    """The condition, such as Ready."""
    status: Literal["True", "False", "Unknown"]
    """Whether the condition holds."""
    reason: Reason
    """The cause, as one CamelCase word for programs."""
    message: Message
    """The cause, as a sentence for people."""
    observed_generation: Int64 | None = None
    """The generation of the spec that the condition was computed from."""
    last_transition_time: Time
    """When status last changed."""


class ProblemSchema(StatusSchema):
    """A problem of the spec or of something that it refers to."""

    code: str
    """The stable problem code, such as variable_undeclared."""
    field: str
    """The field, such as spec.html."""
    line: Line | None = None
    """The line in that field's own text, counted from 1. Absent where lines have no meaning."""
    message: str
    """The rule that is broken, and the way out."""


class SampleSchema(StatusSchema):
    """The result of one sample of a template."""

    name: str
    """The sample."""
    result: Literal["Rendered", "Failed"]
    """Rendered or Failed."""
    locale: str | None = None
    """The language of the rendered letter."""
    html_bytes: Int64 | None = None
    """Bytes of the HTML part in UTF-8."""
    text_bytes: Int64 | None = None
    """Bytes of the text part in UTF-8."""
    message: str | None = None
    """Why the sample failed."""


class SizesSchema(StatusSchema):
    """The sizes of a template's largest sample."""

    html_bytes: Int64 | None = None
    """Bytes of the HTML part in UTF-8."""
    text_bytes: Int64 | None = None
    """Bytes of the text part in UTF-8."""


class TopicSchema(StatusSchema):
    """A Kafka topic of a profile."""

    name: str
    """The topic."""
    partitions: Int32 | None = None
    """The number of its partitions; absent while it is unknown."""
    created: bool | None = None
    """Whether the operator created it; only then does it add partitions."""


Conditions = Annotated[list[ConditionSchema], Field(max_length=16), ListMap("type")]
Samples = Annotated[list[SampleSchema], ListMap("name")]


class EmailTemplateStatus(StatusSchema):
    """The state of the template. Written by the operator."""

    observed_generation: Int64 | None = None
    """The generation of the spec that this status was computed from."""
    conditions: Conditions = Field(default_factory=list)
    """Compiled (the newest spec is valid and its samples render), ProfileResolved (its profile exists and
    accepts it), Ready (the newest spec is what letters are written with)."""
    revision: str | None = None
    """The content hash of the version that letters are written with. After a bad edit that is the last good
    version."""
    sizes: SizesSchema | None = None
    """The largest letter among the samples. Gmail cuts a letter off after 102 KB of HTML."""
    samples: Samples = Field(default_factory=list)
    """The result of each sample."""
    problems: list[ProblemSchema] = Field(default_factory=list)
    """What keeps the newest spec from going live, each with its field and line."""
    warnings: list[ProblemSchema] = Field(default_factory=list)
    """What breaks no rule and is probably not intended."""
    workers_total: Int32 | None = None
    """The number of the profile's workers."""
    workers_current: Int32 | None = None
    """The number of workers that write letters with this revision."""


class EmailLayoutStatus(StatusSchema):
    """The state of the layout. Written by the operator."""

    observed_generation: Int64 | None = None
    """The generation of the spec that this status was computed from."""
    conditions: Conditions = Field(default_factory=list)
    """Compiled (the page is valid), Ready (every template that uses it is valid with it)."""
    templates: Int32 | None = None
    """The number of templates that use it."""
    problems: list[ProblemSchema] = Field(default_factory=list)
    """What is wrong with the newest spec, each with its field and line."""


class SmtpProfileStatus(StatusSchema):
    """The state of the profile and its workers. Written by the operator."""

    observed_generation: Int64 | None = None
    """The generation of the spec that this status was computed from."""
    conditions: Conditions = Field(default_factory=list)
    """TopicReady, SecretsReady, LedgerReachable, KafkaReachable, RelayReachable, CircuitClosed,
    WorkersAvailable, AutoscalingActive, DeliveryAllowed, and Ready, which sums up; where they
    apply also RendererReady, FallbackReady, SigningReady, ReturnPathsReady, StatusEventsPublished and
    CallbacksReady."""
    mode: Literal["Sandbox", "SMTP", "Log"] | None = None
    """What the workers do with letters. Sandbox for SMTP where delivery is not allowed."""
    replicas: Int32 | None = None
    """The number of workers."""
    ready_replicas: Int32 | None = None
    """The number of workers that take events."""
    topics: list[TopicSchema] = Field(default_factory=list)
    """The profile's topic, its dead-letter topic, and the topic of status events if it is asked for."""
    templates: Int32 | None = None
    """The number of templates that its workers serve."""
    lag: Int64 | None = None
    """Events on the topic that no worker has received yet; absent while it is unknown."""
    problems: list[ProblemSchema] = Field(default_factory=list)
    """What is wrong with the newest spec, each with its field."""


STATUSES: Mapping[Kind, type[StatusSchema]] = {
    EmailTemplate: EmailTemplateStatus,
    EmailLayout: EmailLayoutStatus,
    SmtpProfile: SmtpProfileStatus,
}


# --- definitions ---------------------------------------------------------------------------------


def definitions() -> dict[str, str]:
    """The text of each CRD by the name of its file."""
    return {f"{GROUP}_{kind.resource.plural}.yaml": HEADER + _to_yaml(definition(kind)) for kind in STATUSES}


def definition(kind: Kind) -> Schema:
    """The CustomResourceDefinition of a kind."""
    name, resource = kind.__name__, kind.resource
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "plural": resource.plural,
                "singular": resource.singular,
                "shortNames": [*resource.short_names],
                "categories": ["postroom"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in resource.printer_columns],
                    "schema": {"openAPIV3Schema": _object_schema(kind)},
                }
            ],
        },
    }


def _column(column: PrinterColumn) -> Schema:
    members = {
        "name": column.name,
        "description": column.description,
        "type": column.type,
        "priority": column.priority,
        "jsonPath": column.json_path,
    }
    return {name: value for name, value in members.items() if value}


def _object_schema(kind: Kind) -> Schema:
    """The schema of a whole object. The API server checks apiVersion, kind and metadata itself."""
    schema = model_schema(kind)
    properties = schema["properties"]
    for name in ("apiVersion", "kind"):
        properties[name] = {"description": properties[name]["description"], "type": "string"}
    properties["metadata"] = {"type": "object"}
    if "x-kubernetes-validations" in schema:
        # a CEL rule sees only the metadata that the schema names
        properties["metadata"]["properties"] = {"name": {"type": "string"}}
    description = properties["status"]["description"]
    properties["status"] = {**model_schema(STATUSES[kind]), "description": description}
    return {**schema, "required": ["spec"]}


class _WithFactories(GenerateJsonSchema):
    """Writes the value of a default_factory as a default."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if factory := schema.get("default_factory"):
            schema = {**schema, "default": cast("Callable[[], Any]", factory)()}
        return super().default_schema(schema)


def model_schema(model: type[BaseModel]) -> Schema:
    """The structural schema of a model: without references, unions with null, and pydantic's own keywords."""
    whole = model.model_json_schema(by_alias=True, schema_generator=_WithFactories)
    return _structural(whole, whole.get("$defs", {}))


def _structural(schema: Schema, parts: Schema) -> Schema:
    schema = _resolved(schema, parts)
    known = {name: value for name, value in schema.items() if name not in _DROPPED}
    if "description" in known:
        known["description"] = " ".join(known["description"].split())
    if known.get("additionalProperties") is False:
        del known["additionalProperties"]
    elif known.get("additionalProperties") is True:
        del known["additionalProperties"]
        known["x-kubernetes-preserve-unknown-fields"] = True
    if unknown := known.keys() - {*KEYWORDS, "$defs"}:
        raise ValueError(f"a CRD has no {', '.join(sorted(unknown))}: {schema}")
    if "properties" in known:
        known["properties"] = {
            name: _structural(member, parts) for name, member in known["properties"].items()
        }
    for name in ("items", "additionalProperties"):
        if name in known:
            known[name] = _structural(known[name], parts)
    if rules := known.get("x-kubernetes-validations"):
        known["x-kubernetes-validations"] = [
            {member: rule[member] for member in RULE_MEMBERS if member in rule} for rule in rules
        ]
    _set_default(known)
    return {name: known[name] for name in KEYWORDS if name in known}


def _resolved(schema: Schema, parts: Schema) -> Schema:
    """The schema with its reference followed and `or null` left out; its own keywords win."""
    while reference := schema.get("$ref"):
        own = {name: value for name, value in schema.items() if name != "$ref"}
        schema = {**parts[reference.rpartition("/")[2]], **own}
    if "anyOf" in schema:
        own = {name: value for name, value in schema.items() if name != "anyOf"}
        (some,) = [choice for choice in schema["anyOf"] if choice != {"type": "null"}]
        return _resolved({**some, **own}, parts)
    return schema


def _set_default(schema: Schema) -> None:
    """Keep a default only where it changes an object: it is not empty, or has defaults inside.

    The API server evaluates CEL rules on a default before it fills in the defaults inside, so that the
    default of an object with rules is complete.
    """
    if "default" not in schema:
        return
    if schema["default"] in (None, "", []):
        del schema["default"]
        return
    if schema.get("type") != "object" or "x-kubernetes-preserve-unknown-fields" in schema:
        return
    inner = {
        name: member["default"]
        for name, member in schema.get("properties", {}).items()
        if "default" in member
    }
    if not inner:
        del schema["default"]
    else:
        schema["default"] = inner if "x-kubernetes-validations" in schema else {}


class _Dumper(yaml.SafeDumper):
    """Writes equal parts in full and not as aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _to_yaml(value: Schema) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=LINE_CHARACTERS)


def main() -> None:
    """Write the files into the directory that the argument names."""
    for name, text in definitions().items():
        (Path(sys.argv[1]) / name).write_text(text)


if __name__ == "__main__":
    main()
