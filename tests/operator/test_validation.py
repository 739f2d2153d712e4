"""Validation in child processes: results, the cache, and processes that die, hang or are killed."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from postroom.isolated_process import IsolatedProcess, ProcessDied
from postroom.letter.problems import Code
from postroom_operator import validation
from postroom_operator.models import API_VERSION, Manifest, ValidationResult
from postroom_operator.validation import ValidatedObject, Validator

pytestmark = pytest.mark.processes
Test = Callable[[Validator, list[ValidatedObject]], Awaitable[None]]


def template(name: str = "paid", **spec: Any) -> Manifest:
    return {
        "apiVersion": API_VERSION,
        "kind": "EmailTemplate",
        "metadata": {"namespace": "shop", "name": name, "resourceVersion": "7", "managedFields": []},
        "spec": {
            "smtpProfileRef": {"name": "orders"},
            "eventTypes": [f"shop.{name}"],
            "subject": "Paid",
            "html": "<p>Hello</p>",
            "samples": [{"name": "ada", "data": {}}],
            **spec,
        },
        "status": {"anything": True},
    }


def layout(html: str = "<html><body>{% block content %}{% endblock %}</body></html>") -> Manifest:
    metadata = {"namespace": "shop", "name": "plain"}
    return {"apiVersion": API_VERSION, "kind": "EmailLayout", "metadata": metadata, "spec": {"html": html}}


WORK = "{% set y = (i * j) | string | upper | length %}" * 12
HOSTILE = template(
    "hostile",
    html="{% for i in range(99) %}{% for j in range(99) %}" + WORK + "{% endfor %}{% endfor %}<p>Hi</p>",
    samples=[{"name": f"s{n}", "data": {}} for n in range(32)],
)
"""Each rendering stays within its limits; together they take long."""


def run(test: Test, processes: int = 1) -> None:
    async def begin() -> None:
        late: list[ValidatedObject] = []
        async with asyncio.timeout(120), Validator(processes, late.append) as validator:
            await test(validator, late)

    asyncio.run(begin())


async def validated(
    validator: Validator, template: Manifest | None, layout: Manifest | None = None
) -> ValidationResult:
    """The result, however long it takes."""
    found = await validator.validate(template, layout)
    if found is None:
        await asyncio.wait({job.task for job in validator._jobs.values()})
        found = await validator.validate(template, layout)
    assert found is not None
    return found


def test_a_template_comes_back_compiled_with_the_sizes_of_its_samples() -> None:
    async def test(validator: Validator, late: list[ValidatedObject]) -> None:
        found = await validated(validator, template())
        assert found.problems == ()
        assert found.compiled is not None
        assert found.compiled.revision
        assert [(each.name, each.html_bytes > 0) for each in found.samples] == [("ada", True)]

    run(test)


def test_a_mistake_comes_back_as_a_problem_with_its_field_and_line() -> None:
    async def test(validator: Validator, late: list[ValidatedObject]) -> None:
        found = await validated(validator, template(html="<p>\n{{ missing }}</p>"))
        assert found.compiled is None
        assert [(each.code, each.field, each.line) for each in found.problems] == [
            (Code.VARIABLE_UNDECLARED, "spec.html", 2)
        ]
        unreadable = await validated(validator, template(samples=[]))
        assert [each.field for each in unreadable.problems] == ["spec.samples"]

    run(test)


def test_a_layout_is_validated_alone_and_with_its_templates() -> None:
    async def test(validator: Validator, late: list[ValidatedObject]) -> None:
        assert (await validated(validator, None, layout())).problems == ()
        assert (await validated(validator, None, layout("{% block x %}"))).problems != ()
        html = "{% block content %}<p>Hi</p>{% endblock %}"
        assert (await validated(validator, template(html=html), layout())).compiled is not None

    run(test)


def test_a_template_is_not_validated_again_until_it_or_its_layout_changes() -> None:
    async def test(validator: Validator, late: list[ValidatedObject]) -> None:
        first = await validated(validator, template(), layout())
        again = template()
        again["metadata"] = {**again["metadata"], "resourceVersion": "8", "labels": {"a": "b"}}
        assert await validator.validate(again, layout()) is first
        other = layout("<html><body><i>{% block content %}{% endblock %}</i></body></html>")
        assert await validated(validator, template(), other) is not first

    run(test)


def test_urgent_templates_are_validated_before_repeated_ones() -> None:
    async def test(validator: Validator, late: list[ValidatedObject]) -> None:
        await validated(validator, template("warm"))
        answered: list[str] = []

        async def ask(name: str, urgent: bool) -> None:
            await validator.validate(template(name), None, urgent=urgent)
            answered.append(name)

        wanted = [("a", False), ("b", False), ("c", False), ("edited", True)]
        await asyncio.gather(*(ask(name, urgent) for name, urgent in wanted))
        assert answered == ["edited", "a", "b", "c"]

    run(test)


def test_a_namespace_with_many_requests_delays_no_other() -> None:
    async def test(validator: Validator, late: list[ValidatedObject]) -> None:
        await validated(validator, template("warm"))
        answered: list[str] = []

        async def ask(namespace: str, name: str) -> None:
            asked = template(name)
            await validator.validate(
                {**asked, "metadata": {**asked["metadata"], "namespace": namespace}}, None
            )
            answered.append(f"{namespace}/{name}")

        wanted = [("many", "a"), ("many", "b"), ("many", "c"), ("few", "d"), ("few", "e"), ("one", "f")]
        await asyncio.gather(*(ask(*each) for each in wanted))
        assert answered == ["many/a", "few/d", "one/f", "many/b", "few/e", "many/c"]

    run(test)


async def dies(validator: Validator, how: signal.Signals) -> None:
    """End the process that works on a request."""
    [process] = validator._processes
    before = process._process._process
    assert before is not None
    await asyncio.sleep(0.2)  # it has read the request
    before.send_signal(how)
    await before.wait()


def test_a_process_that_dies_is_replaced_and_its_template_gets_the_problem() -> None:
    async def test(validator: Validator, late: list[ValidatedObject]) -> None:
        assert (await validated(validator, template())).compiled
        asked = asyncio.create_task(validator.validate(HOSTILE, None))
        await dies(validator, signal.SIGABRT)
        found = await asked or await validated(validator, HOSTILE)
        assert [each.code for each in found.problems] == [Code.RENDER_LIMIT]
        assert (await validated(validator, template("next"))).compiled

    run(test)


def test_a_template_whose_validation_is_killed_is_validated_again_without_a_problem() -> None:
    async def test(validator: Validator, late: list[ValidatedObject]) -> None:
        [process] = validator._processes
        assert (await validated(validator, template())).compiled
        child = process._process._process
        assert child is not None
        child.send_signal(signal.SIGSTOP)
        asked = asyncio.create_task(validated(validator, template("asked")))
        await dies(validator, signal.SIGKILL)
        assert (await asked).compiled
        child = process._process._process
        assert child is not None
        child.kill()
        await child.wait()
        assert (await validated(validator, template("idle"))).compiled, "also when it was idle"

    run(test)


def test_a_template_whose_validation_is_killed_twice_is_validated_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def killed(self: object, payload: bytes, seconds: float) -> bytes:
        raise ProcessDied(-signal.SIGKILL)

    async def test(validator: Validator, late: list[ValidatedObject]) -> None:
        monkeypatch.setattr(IsolatedProcess, "request", killed)
        (problem,) = (await validated(validator, template())).problems
        assert "killed twice from outside" in problem.message
        monkeypatch.undo()
        [(owner, kept)] = validator._cache.items()
        assert kept.until < asyncio.get_running_loop().time() + 601
        validator._cache[owner] = replace(kept, until=0.0)
        assert (await validated(validator, template())).compiled

    run(test)


def test_a_validation_that_takes_too_long_is_ended_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(validation, "TIMEOUT_SECONDS", 2.0)

    async def test(validator: Validator, late: list[ValidatedObject]) -> None:
        await validated(validator, template("first"))
        assert await validator.validate(HOSTILE, None) is None, "a slow validation does not block the caller"
        found = await validated(validator, HOSTILE)
        assert {each.code for each in found.problems} <= {Code.VALIDATION_TIMED_OUT, Code.RENDER_LIMIT}
        assert found.compiled is None
        assert ("EmailTemplate", "shop", "hostile") in late, "the result is reported later"
        assert (await validated(validator, template("second"))).compiled

    run(test)


def test_a_template_that_exhausts_memory_gets_a_problem_of_its_own() -> None:
    eats = "{% set a = ['x' * 200000] %}" + "{% set a = a + a %}" * 17 + "{{ a | length }}"

    async def test(validator: Validator, late: list[ValidatedObject]) -> None:
        found = await validated(validator, template("eats", html=eats))
        assert found.compiled is None
        assert found.problems
        assert (await validated(validator, template("next"))).compiled

    run(test)


def test_idle_processes_end_except_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "IDLE_SECONDS", 0.1)

    async def test(validator: Validator, late: list[ValidatedObject]) -> None:
        await asyncio.gather(*(validated(validator, template(name)) for name in ("one", "two")))
        first, second = validator._processes
        if child := second._process._process:  # it may have ended already
            await child.wait()
        assert not second._process.running
        assert first._process.running
        both = (validated(validator, template(name)) for name in ("three", "four"))
        assert all(each.compiled for each in await asyncio.gather(*both)), "it comes back for work for two"

    run(test, processes=2)


def test_a_request_that_comes_as_an_idle_process_ends_gets_another_process() -> None:
    async def test(validator: Validator, late: list[ValidatedObject]) -> None:
        [process] = validator._processes
        assert (await validated(validator, template("before"))).compiled
        process._end()
        await process.start()
        result, _ = await process.validate(validation.build_request(template("after"), None)[1])
        assert result.compiled, "a valid template gets no problem"

    run(test)
