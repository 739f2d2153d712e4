"""`python -m tests.chart.schemas FOLDER`: JSON Schemas of Postroom's kinds, for kubeconform and editors.

In: the CustomResourceDefinitions of the chart. Out: a file KIND_VERSION.json each, in lower case, in which a
field that the definition does not name is an error, as it is for the API server under strict validation.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.fixtures.helm import CHART

PATTERN = "{{ .ResourceKind }}_{{ .ResourceAPIVersion }}.json"
"""The location pattern for kubeconform."""


def write(folder: Path) -> None:
    """Write the schema of every version of every kind."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((CHART / "files" / "crds").glob("*.yaml")):
        spec = yaml.safe_load(path.read_text())["spec"]
        for version in spec["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            # fields of every object that a CRD does not declare
            schema["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
            schema["properties"]["metadata"] = {"type": "object"}
            (folder / f"{spec['names']['kind'].lower()}_{version['name']}.json").write_text(
                json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", **schema}, indent=1)
            )


def strict(schema: Any) -> Any:
    """A structural schema as plain JSON Schema, without unknown fields and with int-or-string expanded."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    known = {name: strict(value) for name, value in schema.items() if not name.startswith("x-kubernetes")}
    if schema.get("x-kubernetes-int-or-string"):
        known["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not open_ended:
        known["additionalProperties"] = False
    return known


if __name__ == "__main__":
    write(Path(sys.argv[1]))
