"""Bad manifests: the answers of `postroom check` and conditions, and the API server's answers before it
stores them.

The API server's answers are recorded by tests/cluster/test_bad_inputs.py and compared there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postroom.connections import ConnectionsSecret, read_connections
from postroom.letter.manifest import Manifest, parse_object
from postroom.letter.problems import Rejected
from postroom.letter.validation.validate import validate_manifests
from tests.badinputs.row import Answers, BadInput, only
from tests.cluster.manifests import Object, profile, template

CHECK = "`postroom check`"
WORKER = "worker, condition"
SERVER = "API server"
NAMESPACE = "shop"
RELAY: Object = {"host": "relay.larkfield.example"}
AUTH: Object = {"method": "PLAIN", "secretRef": {"name": "relay", "namespace": "payments"}}
SECRET = "Secret shop/postroom-connections"
SPECS = "cluster/test_operator_specs.py"
PARITY = "cluster/test_parity.py::test_the_api_server_gives_the_verdicts_of_the_corpus"
SYNTAX = "<p>Hello</p>\n\n\n\n\n\n<p>{{ name </p>"


@dataclass(frozen=True, slots=True)
class Manifested:
    """A bad manifest: the last of `objects`. The others are the objects that it refers to."""

    name: str
    given: str
    objects: tuple[Object, ...]
    tests: tuple[str, ...] = ()

    def row(self) -> BadInput:
        """The row with the answers of models and validation."""
        return BadInput(self.name, "Manifest", self.given, self._check, self.tests)

    def _check(self) -> Answers:
        found: list[Manifest] = []
        problems: list[object] = []
        for each in self.objects:
            placed = {**each, "metadata": {**each["metadata"], "namespace": NAMESPACE}}
            model, broken, _ = parse_object(placed, each["kind"])
            problems += broken
            found += [model] if model else []
        for result in validate_manifests(found).results.values():
            problems += result.problems
        return only(CHECK, *problems)


def _template(name: str, given: str, *tests: str, **changes: Any) -> Manifested:
    return Manifested(name, given, (profile(), template(**changes)), tests)


def _profile(name: str, given: str, *tests: str, **changes: Any) -> Manifested:
    return Manifested(name, given, (profile(**changes),), tests)


MANIFESTS = (
    _template("unknown-field", "an unknown field, `subjet`", PARITY, subjet="Hello"),
    _template(
        "syntax-error",
        "a syntax error on line 7 of `html`",
        f"{SPECS}::test_a_bad_edit_names_line_and_rule_and_the_last_good_version_stays_in_use",
        html=SYNTAX,
    ),
    _template("unsafe-attribute", "`{{ ''.__class__ }}`", html="<p>{{ ''.__class__ }}</p>"),
    _template("foreign-include", "`{% include '/etc/passwd' %}`", html="{% include '/etc/passwd' %}"),
    _profile(
        "secret-of-another-namespace",
        "`secretRef` with a `namespace`",
        "cluster/test_operator_guard.py::test_a_tenant_cannot_refer_to_another_namespace",
        smtp={**RELAY, "auth": AUTH},
    ),
    _profile("port-70000", "`smtp.port: 70000`", PARITY, smtp={**RELAY, "port": 70000}),
    _profile("negative-retries", "`retry.maxAttempts: -1`", PARITY, retry={"maxAttempts": -1}),
    _profile("spaced-duration", "`retry.maxAge: 5 min`", PARITY, retry={"maxAge": "5 min"}),
    Manifested(
        "event-type-of-two",
        "two templates of one profile with one event type (the older one keeps it)",
        (profile(), template(), template("rival", eventTypes=["shop.welcome"])),
        (f"{SPECS}::test_two_templates_of_one_event_type_are_distinguished",),
    ),
    _profile(
        "topic-pattern",
        "`kafka.topic: .*`",
        "letter/test_profile.py::test_a_topic_of_another_namespace_or_a_pattern_is_rejected",
        kafka={"topic": ".*"},
    ),
    _template(
        "header-line-end",
        "a header called `X-A\\r\\nBcc`",
        PARITY,
        headers=[{"name": "X-A\r\nBcc", "value": "b@y.org"}],
    ),
    _template("header-bcc", "a header called `Bcc`", PARITY, headers=[{"name": "Bcc", "value": "b@y.org"}]),
)


def _secret(texts: dict[str, str]) -> Callable[[], Answers]:
    def ask() -> Answers:
        try:
            read_connections(ConnectionsSecret(texts, Path("/mounted"), SECRET), NAMESPACE)
        except Rejected as rejected:
            return only(WORKER, *rejected.problems)
        raise AssertionError("the Secret was taken")

    return ask


HEALS = (
    "delivery/test_cluster.py::test_a_worker_waits_for_its_secret_its_keys_and_its_topic_and_then_serves",
)
SECRETS = (
    BadInput(
        "missing-secret",
        "Secret",
        "the connections Secret is not there; heals once it is",
        _secret({}),
        HEALS,
    ),
    BadInput(
        "missing-key",
        "Secret",
        "the connections Secret lacks a key; heals once it has it",
        _secret({"kafka-bootstrap-servers": "kafka:9092"}),
        HEALS,
    ),
)
ROWS = (*(each.row() for each in MANIFESTS), *SECRETS)
