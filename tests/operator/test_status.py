"""Statuses: messages, transition times, and no writes at rest."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from postroom.letter.problems import Code, Problem
from postroom_operator.models import (
    Manifest,
    SampleSizes,
    TemplateState,
    TopicState,
    ValidationResult,
    WorkerCondition,
    WorkerReport,
)
from postroom_operator.status.conditions import (
    MAX_PROBLEMS,
    MESSAGE_LENGTH,
    EventContent,
    event_manifest,
    ready_transition,
)
from postroom_operator.status.profile import ProfileFacts, profile_status, round_lag
from postroom_operator.status.template import is_rolling_out, layout_status, template_status
from tests.fixtures.golden import ROOT
from tests.operator.test_bundle import template as compiled

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)
NEW, OLD = compiled("welcome", revision=2), compiled("welcome", revision=1)
TYPO = Problem(Code.VARIABLE_UNDECLARED, "spec.html", "`nmae` is not declared; did you mean `name`?", 3)
LETTERS = (
    SampleSizes("ada", "en", 2000, 300),
    SampleSizes("ada", "de", 2200, 310),
    SampleSizes("zoe", "en", 100, 400),
)
GOOD = ValidationResult(NEW, samples=LETTERS)


def manifest(kind: str, status: Mapping[str, Any] | None = None, **spec: Any) -> Manifest:
    metadata = {"name": "welcome", "namespace": "shop", "generation": 4, "uid": "u-1"}
    found: Manifest = {
        "apiVersion": "postroom.dev/v1alpha1",
        "kind": kind,
        "metadata": metadata,
        "spec": {"smtpProfileRef": {"name": "orders"}, **spec} if kind == "EmailTemplate" else spec,
    }
    return found | ({"status": status} if status else {})


def template(status: Mapping[str, Any] | None = None) -> Manifest:
    return manifest("EmailTemplate", status, samples=[{"name": "ada"}, {"name": "zoe"}])


def worker(pod: str, revision: str = "") -> WorkerReport:
    return WorkerReport(pod, templates={"welcome": revision} if revision else {}, lag=0)


def condition(status: Mapping[str, Any], type_: str = "Ready") -> tuple[str, str, str]:
    [found] = [each for each in status["conditions"] if each["type"] == type_]
    return found["status"], found["reason"], found["message"]


def since(status: Mapping[str, Any], type_: str = "Ready") -> str:
    [found] = [each for each in status["conditions"] if each["type"] == type_]
    return str(found["lastTransitionTime"])


def live(status: Mapping[str, Any] | None = None) -> TemplateState:
    return TemplateState(template(status), GOOD, serving=NEW)


def broken(status: Mapping[str, Any] | None = None, *problems: Problem) -> TemplateState:
    found = problems or (TYPO,)
    return TemplateState(template(status), ValidationResult(problems=found), found, serving=OLD)


def test_a_live_template_reports_its_revision_sizes_and_samples() -> None:
    status = template_status(live(), [], NOON)
    assert condition(status) == ("True", "Serving", f"letters are rendered with revision {NEW.revision}")
    assert condition(status, "Compiled")[:2] == ("True", "Valid")
    assert condition(status, "ProfileResolved")[:2] == ("True", "Resolved")
    assert status["revision"] == NEW.revision
    assert status["sizes"] == {"htmlBytes": 2200, "textBytes": 400}
    assert [(each["name"], each["locale"], each["htmlBytes"]) for each in status["samples"]] == [
        ("ada", "de", 2200),
        ("zoe", "en", 100),
    ]
    assert {each["observedGeneration"] for each in status["conditions"]} == {4}


def test_a_bad_edit_names_field_line_and_rule_and_the_revision_in_use() -> None:
    status = template_status(broken(), [], NOON)
    assert condition(status, "Compiled")[:2] == ("False", "VariableUndeclared")
    assert condition(status)[2] == (
        "spec.html, line 3: `nmae` is not declared; did you mean `name`?"
        f"; revision {OLD.revision} stays in use"
    )
    assert status["revision"] == OLD.revision
    assert status["problems"] == [
        {"code": "variable_undeclared", "field": "spec.html", "line": 3, "message": TYPO.message}
    ]


def test_a_long_list_of_long_problems_stays_within_bounds() -> None:
    many = [Problem(Code.TEMPLATE_SYNTAX, "spec.html", "x" * 5000, n) for n in range(1, 100)]
    status = template_status(broken(None, *many), [], NOON)
    assert len(status["problems"]) == MAX_PROBLEMS
    message = condition(status)[2]
    assert len(message) <= MESSAGE_LENGTH
    assert message.endswith(f"… (and 98 more); revision {OLD.revision} stays in use")


def test_a_missing_profile_is_no_fault_of_the_template() -> None:
    missing = Problem(Code.PROFILE_NOT_FOUND, "spec.smtpProfileRef.name", "there is no SmtpProfile `orders`")
    status = template_status(TemplateState(template(), GOOD, (missing,)), [], NOON)
    assert condition(status, "Compiled")[0] == "True"
    assert condition(status, "ProfileResolved")[:2] == ("False", "ProfileNotFound")
    assert condition(status)[:2] == ("False", "ProfileNotFound")
    assert "revision" not in status


def test_an_invalid_profile_is_named_as_the_reason() -> None:
    status = template_status(TemplateState(template(), GOOD, serving=OLD), [], NOON)
    assert condition(status)[:2] == ("False", "ProfileInvalid")


def test_a_sample_that_fails_says_why() -> None:
    problem = Problem(Code.SAMPLE_FAILED, "spec.html", "sample `zoe`: division by zero", 2)
    status = template_status(broken(None, problem), [], NOON)
    assert status["samples"] == [{"name": "zoe", "result": "Failed", "message": problem.message}]


def test_a_suspended_template_reports_that_its_letters_wait() -> None:
    held = replace(NEW, suspend=True)
    status = template_status(TemplateState(template(), replace(GOOD, compiled=held), serving=held), [], NOON)
    assert condition(status)[:2] == ("False", "Suspended")


def test_a_validation_in_progress_is_unknown_and_stops_nothing() -> None:
    status = template_status(TemplateState(template(), ValidationResult(), serving=OLD), [], NOON)
    assert condition(status)[:2] == ("Unknown", "Validating")
    assert status["revision"] == OLD.revision


def test_a_template_that_is_only_validated_again_keeps_its_status() -> None:
    """A restarted operator validates everything again, which takes a while on a busy machine."""
    for found in (live(), broken()):
        status = template_status(found, [], NOON)
        again = TemplateState(template(status), ValidationResult(), serving=found.serving)
        assert template_status(again, [], LATER) == status
    edited = template(template_status(live(), [], NOON))
    edited["metadata"]["generation"] += 1
    assert (
        condition(template_status(TemplateState(edited, ValidationResult(), serving=NEW), [], LATER))[1]
        == "Validating"
    )
    unserved = TemplateState(template(template_status(live(), [], NOON)), ValidationResult())
    assert condition(template_status(unserved, [], LATER))[1] == "Validating"

    page = layout_status(manifest("EmailLayout"), ValidationResult(), 1, [], NOON)
    assert layout_status(manifest("EmailLayout", page), None, 2, [], LATER) == page | {"templates": 2}


def test_workers_are_counted_when_the_first_has_the_revision_and_0_of_0_is_not_reported() -> None:
    alone = template_status(live(), [], NOON)
    assert condition(alone)[:2] == ("True", "Serving")
    assert not {"workersCurrent", "workersTotal"} & set(alone)
    assert template_status(live(alone), [worker("a")], LATER) == alone, "it has just started"
    counted = template_status(live(alone), [worker("a", NEW.revision)], LATER)
    assert (counted["workersCurrent"], counted["workersTotal"]) == (1, 1)
    assert since(counted) == since(alone)
    for reports in ([], [worker("b")], [worker("b", OLD.revision)], [worker("a"), worker("b")]):
        assert template_status(live(counted), reports, LATER) == counted, "a restarted worker"


def test_a_worker_count_of_0_of_0_is_corrected_once() -> None:
    before = template_status(live(), [], NOON) | {"workersCurrent": 0, "workersTotal": 0}
    after = template_status(live(before), [], LATER)
    assert "workersTotal" not in after
    assert template_status(live(after), [], LATER) == after


def test_a_new_revision_is_ready_once_every_worker_has_it() -> None:
    before = template_status(TemplateState(template(), replace(GOOD, compiled=OLD), serving=OLD), [], NOON)
    going = template_status(live(before), [worker("a", NEW.revision), worker("b", OLD.revision)], LATER)
    assert condition(going)[:2] == ("False", "RollingOut")
    assert (going["workersCurrent"], going["workersTotal"]) == (1, 2)
    assert is_rolling_out(going)
    done = template_status(live(going), [worker("a", NEW.revision), worker("b", NEW.revision)], LATER)
    assert condition(done)[0] == "True"
    assert (done["workersCurrent"], done["workersTotal"]) == (2, 2)


def test_a_restarted_worker_changes_no_templates_status() -> None:
    done = template_status(live(), [worker("a", NEW.revision)], NOON)
    assert template_status(live(done), [worker("a", NEW.revision), worker("b")], LATER) == done


def test_times_move_when_a_status_flips_and_at_no_other_time() -> None:
    first = template_status(live(), [], NOON)
    same = template_status(live(first), [], LATER)
    assert same == first
    bad = template_status(broken(first), [], LATER)
    assert since(bad) == "2026-11-25T12:05:00Z"
    assert since(bad, "ProfileResolved") == "2026-11-25T12:00:00Z"
    worse = template_status(broken(bad, replace(TYPO, line=9)), [], LATER + timedelta(hours=1))
    assert condition(worse) != condition(bad)
    assert since(worse) == since(bad)


def test_a_layout_names_the_templates_that_are_invalid_with_it() -> None:
    layout = manifest("EmailLayout")
    failing = [f"t{n}" for n in range(8)]
    status = layout_status(layout, ValidationResult(), 10, failing, NOON)
    assert condition(status)[:2] == ("False", "TemplatesFail")
    assert condition(status)[2].startswith("templates t0, t1, t2, t3, t4 and 3 more are invalid")
    assert condition(status)[2].endswith("see their statuses")
    one = layout_status(layout, ValidationResult(), 10, ["t0"], NOON)
    assert condition(one)[2] == "template t0 is invalid with this layout; see its status"
    assert condition(layout_status(layout, ValidationResult(), 1, [], NOON))[2] == "used by 1 template"
    assert condition(layout_status(layout, ValidationResult(), 0, [], NOON))[0] == "True"
    assert condition(layout_status(layout, None, 3, [], NOON))[:2] == ("Unknown", "Validating")
    assert condition(layout_status(layout, ValidationResult(problems=(TYPO,)), 3, [], NOON))[:2] == (
        "False",
        "VariableUndeclared",
    )


OK = WorkerCondition(True, "Ok", "fine")
WELL = {"secrets": OK, "ledger": OK, "kafka": OK, "relay": WorkerCondition(None, "NotTried")}


def answering(pod: str, **answers: WorkerCondition) -> WorkerReport:
    return WorkerReport(pod, conditions=WELL | answers, lag=0)


TOPICS = (TopicState("postroom.shop.orders", 3), TopicState("postroom.shop.orders.dlq", 1))
RUNNING = {
    "spec": {"replicas": 2},
    "status": {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2},
}


def facts(status: Mapping[str, Any] | None = None, **more: Any) -> ProfileFacts:
    spec = more.pop("spec", {})
    well: dict[str, Any] = {
        "mode": "Sandbox",
        "topics": TOPICS,
        "reports": (answering("a"), answering("b")),
        "deployment": RUNNING,
        "templates": 2,
    }
    return ProfileFacts(manifest("SmtpProfile", status, **spec), **(well | more))


def test_a_running_profile_reports_its_numbers() -> None:
    status = profile_status(facts(), NOON)
    assert condition(status)[:2] == ("True", "Serving")
    figures = {key: status[key] for key in ("mode", "replicas", "readyReplicas", "templates", "lag")}
    assert figures == {"mode": "Sandbox", "replicas": 2, "readyReplicas": 2, "templates": 2, "lag": 0}
    assert status["topics"][0] == {"name": "postroom.shop.orders", "partitions": 3}
    assert profile_status(facts(status), LATER) == status


def test_an_operator_that_has_polled_no_worker_yet_writes_nothing() -> None:
    busy = (replace(answering("a"), lag=70), answering("b"))
    status = profile_status(facts(reports=busy), NOON)
    unseen = tuple(TopicState(each.name) for each in TOPICS)
    assert status["lag"] == 70
    assert profile_status(facts(status, reports=(), topics=unseen), LATER) == status
    assert profile_status(facts(status, reports=(), topics=()), LATER) == status


def test_the_state_of_unresponsive_workers_becomes_unknown() -> None:
    status = profile_status(facts(reports=(answering("a"), answering("b", signing=OK))), NOON)
    assert condition(status)[0] == "True"
    silent = profile_status(facts(status, reports=(), unresponsive=True), LATER)
    assert condition(silent)[:2] == condition(silent, "LedgerReachable")[:2] == ("Unknown", "NoWorkerAnswers")
    assert condition(silent, "WorkersAvailable")[0] == "True"
    assert "lag" not in silent
    assert "SigningReady" not in {each["type"] for each in silent["conditions"]}
    assert announced(status, silent) == []
    assert profile_status(facts(silent), LATER)["lag"] == 0


def test_a_missing_signing_key_is_reported_and_kept_until_workers_answer_again() -> None:
    unsigned = answering(
        "a", signing=WorkerCondition(False, "SecretKeyMissing", "dkim.key: is not in Secret shop/dkim")
    )
    status = profile_status(facts(reports=(unsigned,)), NOON)
    assert condition(status)[:2] == condition(status, "SigningReady")[:2] == ("False", "SecretKeyMissing")
    assert profile_status(facts(status, reports=()), LATER) == status
    healed = profile_status(facts(status, reports=(answering("a", signing=OK),)), LATER)
    assert condition(healed, "SigningReady")[0] == condition(healed)[0] == "True"
    gone = profile_status(facts(healed), LATER)
    assert "SigningReady" not in [each["type"] for each in gone["conditions"]]


def test_a_worker_that_cannot_try_records_after_a_crash_makes_the_profile_not_ready() -> None:
    stuck = answering("a", renderer=WorkerCondition(False, "RendererNotStarted", "records wait"))
    status = profile_status(facts(reports=(stuck,)), NOON)
    assert condition(status)[:2] == condition(status, "RendererReady")[:2] == ("False", "RendererNotStarted")
    well = profile_status(facts(status), LATER)
    assert "RendererReady" not in [each["type"] for each in well["conditions"]]


def test_workers_that_are_neither_ready_nor_answer_have_no_conditions() -> None:
    status = profile_status(facts(), NOON)
    later = profile_status(facts(status, reports=(), deployment={"spec": {"replicas": 2}}), LATER)
    assert condition(later, "LedgerReachable")[:2] == ("Unknown", "NoWorkerAnswers")
    assert "lag" not in later


def test_the_topics_that_were_created_for_a_profile_are_recorded() -> None:
    made = (replace(TOPICS[0], created=True), TOPICS[1])
    topics = profile_status(facts(topics=made), NOON)["topics"]
    assert [each.get("created", False) for each in topics] == [True, False]
    assert unknown(profile_status(facts(topics=made), NOON), schema("smtpprofiles")) == []


def test_while_no_broker_answers_no_topic_is_reported_without_partitions() -> None:
    made = (replace(TOPICS[0], created=True), TOPICS[1])
    before = profile_status(facts(topics=made), NOON)
    away = tuple(
        replace(each, partitions=0, problem="no answer", reason="BrokerUnreachable") for each in made
    )
    topics = profile_status(facts(before, topics=away), LATER)["topics"]
    assert topics == [{"name": "postroom.shop.orders", "created": True}, {"name": "postroom.shop.orders.dlq"}]


REFUSED = WorkerCondition(False, "SecretMissing", "Secret postroom-connections is not there; create it")
STUCK = {
    "spec": {"replicas": 2},
    "status": {
        "conditions": [
            {
                "type": "Progressing",
                "status": "False",
                "reason": "ProgressDeadlineExceeded",
                "message": "slow",
            }
        ]
    },
}
FORBIDDEN = {
    "spec": {"replicas": 1},
    "status": {
        "conditions": [
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"},
            {
                "type": "Progressing",
                "status": "False",
                "reason": "ProgressDeadlineExceeded",
                "message": "slow",
            },
        ]
    },
}


@pytest.mark.parametrize(
    ("found", "status", "reason"),
    [
        ({"topics": ()}, "Unknown", "Pending"),
        ({"topics": (TopicState("t", problem="no answer", reason="Unreachable"),)}, "False", "Unreachable"),
        ({"topics": (TopicState("t", 6, differences=("partitions: 6, not 3",)),)}, "True", "Serving"),
        ({"reports": ()}, "Unknown", "NoWorkerAnswers"),
        ({"reports": (answering("a"), answering("b", secrets=REFUSED))}, "False", "SecretMissing"),
        ({"reports": (answering("a", relay=WorkerCondition(False, "Refused", "no")),)}, "False", "Refused"),
        ({"reports": (answering("a", relay=WorkerCondition(False)),)}, "False", "Failed"),
        ({"deployment": None}, "Unknown", "NotCreated"),
        ({"deployment": {"spec": {"replicas": 0}}}, "False", "ScaledToZero"),
        ({"deployment": {"spec": {"replicas": 2}}}, "False", "Starting"),
        ({"deployment": STUCK}, "False", "ProgressDeadlineExceeded"),
        ({"deployment": FORBIDDEN}, "False", "FailedCreate"),
        ({"problems": (Problem(Code.MANIFEST_INVALID, "spec", "no"),)}, "False", "ManifestInvalid"),
        ({"apply_problem": "quota exceeded"}, "False", "NotApplied"),
        ({"spec": {"suspend": True}}, "False", "Suspended"),
        ({"spec": {"suspend": True}, "effect_changing": True}, "False", "Suspending"),
        ({"effect_changing": True}, "False", "Replacing"),
        ({"spec": {"mode": "SMTP"}, "mode": "SMTP"}, "True", "Serving"),
        ({"spec": {"mode": "SMTP"}, "guarded": True}, "True", "TreatedAsSandbox"),
        ({"spec": {"workers": {"autoscaling": {}}}}, "True", "ServingWithoutAutoscaling"),
    ],
)  # fmt: skip
def test_a_profile_reports_failures_first(found: dict[str, Any], status: str, reason: str) -> None:
    assert condition(profile_status(facts(**found), NOON))[:2] == (status, reason)


def test_the_guard_names_the_missing_label_and_who_sets_it() -> None:
    status = profile_status(facts(spec={"mode": "SMTP"}, guarded=True), NOON)
    assert condition(status, "DeliveryAllowed")[:2] == ("False", "NamespaceNotLabelled")
    for word in ("namespace shop", "postroom.dev/delivery=allowed", "administrator"):
        assert word in condition(status)[2]


def test_a_secret_that_delivery_needs_is_reported_before_and_after_the_label() -> None:
    smtp = {"mode": "SMTP"}
    later = WorkerCondition(True, "MissingForDelivery", "delivery will miss Secret shop/relay")
    guarded = facts(spec=smtp, guarded=True, reports=(answering("a", secrets=later),))
    before = profile_status(guarded, NOON)
    assert condition(before, "SecretsReady") == ("True", "MissingForDelivery", later.message)
    assert condition(before)[:2] == ("True", "TreatedAsSandbox")
    assert condition(before)[2].endswith(f"an administrator sets; {later.message}")
    [first] = announced(None, before)
    assert (first.type, first.reason) == ("Warning", "TreatedAsSandbox")
    assert later.message in first.message
    missing = (answering("a", secrets=REFUSED),)
    after = profile_status(facts(before, spec=smtp, mode="SMTP", reports=missing), LATER)
    assert [(each.type, each.reason) for each in announced(before, after)] == [("Warning", "SecretMissing")]


SCALED = {"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "ScaledObjectReady"}]}}


@pytest.mark.parametrize(
    ("found", "status", "reason"),
    [
        ({}, "False", "KedaMissing"),
        ({"keda_available": True}, "Unknown", "KedaStatusUnknown"),
        ({"keda_available": True, "scaled_object": SCALED}, "True", "ScaledObjectReady"),
    ],
)
def test_an_autoscaler_has_a_condition_where_the_profile_has_one(
    found: dict[str, Any], status: str, reason: str
) -> None:
    spec = {"workers": {"autoscaling": {"minReplicas": 1}}}
    assert condition(profile_status(facts(spec=spec, **found), NOON), "AutoscalingActive")[:2] == (
        status,
        reason,
    )
    assert "AutoscalingActive" not in {each["type"] for each in profile_status(facts(), NOON)["conditions"]}


def test_an_invalid_reason_does_not_reject_the_whole_status() -> None:
    odd = WorkerCondition(False, "9 lives left!", "x")
    status = profile_status(facts(reports=(answering("a", ledger=odd),)), NOON)
    assert condition(status, "LedgerReachable")[1] == "livesleft"


READING, STARTING = WorkerReport("a", lag=70, has_partitions=True), WorkerReport("b")
HOLDING = WorkerReport("a", lag=70, suspended=True)


@pytest.mark.parametrize(
    ("reports", "shown"),
    [
        ((READING, replace(READING, pod="b", lag=7)), 77),
        ((READING, STARTING), 70),
        ((READING, replace(READING, pod="b", lag=None)), None),
        ((replace(READING, lag=None), replace(READING, pod="b", lag=None)), None),
        ((READING,), None),
        ((HOLDING, replace(HOLDING, pod="b")), 70),
        ((HOLDING, replace(HOLDING, pod="b", lag=None)), 70),
    ],
    ids=[
        "each has partitions",
        "one has none yet",
        "one cannot tell",
        "no broker answers",
        "one of two does not answer",
        "both suspended",
        "one of them has not looked yet",
    ],
)
def test_a_lag_is_shown_where_it_is_known_and_not_as_0_where_it_is_not(
    reports: tuple[WorkerReport, ...], shown: int | None
) -> None:
    assert profile_status(facts(reports=reports), NOON).get("lag") == shown


@pytest.mark.parametrize(("lag", "shown"), [(0, 0), (7, 7), (99, 99), (123, 120), (98765, 98000)])
def test_a_lag_is_shown_in_two_digits(lag: int, shown: int) -> None:
    assert round_lag(lag) == shown


def schema(plural: str) -> Mapping[str, Any]:
    path = ROOT / "charts" / "postroom" / "files" / "crds" / f"postroom.dev_{plural}.yaml"
    [version] = yaml.safe_load(path.read_text())["spec"]["versions"]
    found: Mapping[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    return found


def unknown(value: Any, schema: Mapping[str, Any], path: str = "status") -> list[str]:
    """Fields that the API server would drop, so that every next status would differ."""
    if isinstance(value, dict):
        known = schema.get("properties", {})
        return [f"{path}.{key}" for key in value if key not in known] + [
            each for key in value if key in known for each in unknown(value[key], known[key], f"{path}.{key}")
        ]
    if isinstance(value, list):
        return [each for one in value for each in unknown(one, schema["items"], f"{path}[]")]
    return []


def test_every_field_of_a_status_exists_in_its_kind() -> None:
    failed = Problem(Code.SAMPLE_FAILED, "spec.html", "sample `zoe`: no", 2)
    assert unknown(template_status(live(), [worker("a")], NOON), schema("emailtemplates")) == []
    assert unknown(template_status(broken(None, failed), [], NOON), schema("emailtemplates")) == []
    assert (
        unknown(
            layout_status(manifest("EmailLayout"), ValidationResult(problems=(TYPO,)), 1, [], NOON),
            schema("emaillayouts"),
        )
        == []
    )
    assert unknown(profile_status(facts(problems=(TYPO,)), NOON), schema("smtpprofiles")) == []


def announced(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[EventContent]:
    turned = ready_transition(before, after)
    return [turned.event] if turned and turned.event else []


def turns(*statuses: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """The log lines of these statuses in order, and whether they are warnings."""
    pairs = zip((None, *statuses), statuses, strict=False)
    found = [ready_transition(before, after) for before, after in pairs]
    return [(each.ready, each.reason, each.is_warning) for each in found if each]


def test_the_log_has_each_transition_of_ready_and_none_in_progress() -> None:
    first = template_status(live(), [worker("a", OLD.revision)], NOON)
    done = template_status(live(first), [worker("a", NEW.revision)], NOON)
    bad = template_status(broken(done), [], LATER)
    again = template_status(live(bad), [], LATER)
    assert is_rolling_out(first)
    assert turns(first, done, done, bad, bad, again) == [
        ("True", "Serving", False),
        ("False", "VariableUndeclared", True),
        ("True", "Serving", False),
    ]


def test_the_log_warns_of_no_suspension() -> None:
    serving = profile_status(facts(), NOON)
    held = profile_status(facts(serving, spec={"suspend": True}), LATER)
    assert turns(serving, held, profile_status(facts(held), LATER)) == [
        ("True", "Serving", False),
        ("False", "Suspended", False),
        ("True", "Serving", False),
    ]


def test_the_log_reports_that_an_edit_is_live() -> None:
    before = template_status(live(), [], NOON)
    edited = manifest("EmailTemplate", before)
    edited["metadata"]["generation"] = 5
    after = template_status(TemplateState(edited, GOOD, serving=NEW), [], LATER)
    assert turns(before, after) == [("True", "Serving", False)] * 2


def test_a_transition_in_progress_has_no_event() -> None:
    first = template_status(live(), [worker("a", OLD.revision)], NOON)
    done = template_status(live(first), [worker("a", NEW.revision)], NOON)
    assert is_rolling_out(first)
    assert announced(None, first) == announced(first, done) == announced(done, done) == []


def test_the_first_start_of_workers_has_no_event_and_their_loss_has_one() -> None:
    new = {"spec": {"replicas": 2}}
    starting = profile_status(facts(deployment=new, reports=()), NOON)
    serving = profile_status(facts(starting), LATER)
    assert announced(None, starting) == announced(starting, serving) == []

    lost = profile_status(facts(serving, deployment=new, reports=()), LATER)
    gone = "none of 2 workers is available now"
    assert announced(serving, lost) == [EventContent("Warning", "NoneAvailable", gone)]
    assert profile_status(facts(lost, deployment=new, reports=()), LATER) == lost
    assert [each.reason for each in announced(lost, profile_status(facts(lost), LATER))] == ["Recovered"]


def test_workers_that_follow_those_of_another_mode_are_only_starting() -> None:
    none_yet = {"deployment": {"spec": {"replicas": 2}}, "reports": ()}
    serving = profile_status(facts(), NOON)
    ending = profile_status(facts(serving, effect_changing=True), LATER)
    following = profile_status(facts(ending, **none_yet), LATER)
    still = profile_status(facts(following, **none_yet), LATER)
    at_work = profile_status(facts(still), LATER)
    assert (
        condition(following)
        == condition(still)
        == ("False", "Starting", "none of 2 workers is available yet")
    )
    assert turns(serving, ending, following, still, at_work) == [("True", "Serving", False)] * 2
    assert announced(following, at_work) == []


def test_a_failure_and_its_end_have_an_event_each() -> None:
    good = template_status(live(), [], NOON)
    bad = template_status(broken(good), [], LATER)
    assert announced(good, bad) == [EventContent("Warning", "VariableUndeclared", condition(bad)[2])]
    assert announced(bad, template_status(broken(bad), [], LATER)) == []
    assert announced(bad, template_status(live(bad), [], LATER)) == [
        EventContent("Normal", "Recovered", condition(good)[2])
    ]


def test_the_guard_has_an_event() -> None:
    status = profile_status(facts(spec={"mode": "SMTP"}, guarded=True), NOON)
    [event] = announced(None, status)
    assert (event.type, event.reason) == ("Warning", "TreatedAsSandbox")
    assert announced(status, status) == []


def test_the_same_event_of_the_same_generation_has_the_same_name() -> None:
    content = EventContent("Warning", "Broken", "x" * 2000)
    found = event_manifest(template(), content, "operator-0", NOON)
    assert (
        found["metadata"]["name"]
        == event_manifest(template(), content, "operator-1", LATER)["metadata"]["name"]
    )
    assert len(found["note"].encode()) == 1024
    assert found["regarding"]["uid"] == "u-1"
    newer = template()
    newer["metadata"]["generation"] = 5
    assert event_manifest(newer, content, "", NOON)["metadata"]["name"] != found["metadata"]["name"]


def test_an_unusable_fallback_is_reported_and_stops_nothing() -> None:
    problem = Problem(
        Code.FALLBACK_MISSING, "spec.fallbackRef.name", "SmtpProfile shop/spare is not there. Apply it"
    )
    status = profile_status(facts(fallback_problem=problem), NOON)
    assert condition(status)[:2] == ("True", "Serving")
    found = next(each for each in status["conditions"] if each["type"] == "FallbackReady")
    assert (found["status"], found["reason"]) == ("False", "FallbackMissing")
    assert "Apply it" in found["message"]


def test_an_open_circuit_makes_the_profile_not_ready() -> None:
    answers = {"circuit": WorkerCondition(False, "Open", "letters wait until the relay answers again")}
    status = profile_status(facts(reports=(answering("a", **answers),)), NOON)
    found = next(each for each in status["conditions"] if each["type"] == "CircuitClosed")
    assert (found["status"], found["reason"]) == ("False", "Open")
    assert condition(status)[:2] == ("False", "Open")
