"""The operator at 2,000 templates and 50 profiles on a real API server: cold, at rest, and edits.

Objects a second from the start of the process until every template has a status of its proof; what CPU each
process takes for it and what it weighs; what is written in a minute at rest; and how long the edit of one
template takes until it is in its ConfigMap, also of an operator that has only just begun. Five minutes at
rest are more than one test may take otherwise:
`BENCH_REST_SECONDS=300 pytest -m bench -s -o faulthandler_timeout=900 tests/bench/test_operator_speed.py`.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster.controlplane import ControlPlane
from tests.cluster.program import free_ports

pytestmark = [pytest.mark.bench, pytest.mark.apiserver]

PROFILES = 50
TEMPLATES = 2_000
REST_SECONDS = float(os.environ.get("BENCH_REST_SECONDS", "60"))
GROUP = "/apis/postroom.dev/v1alpha1/namespaces"
PARAGRAPH = (
    "<p class=lead>Hello {{ first_name }}, thank you for order {{ order }}.</p>\n"
    "<p>We have packed it with care and handed it to {{ carrier }}. Most parcels take two or three days; "
    "you can follow yours on its way from our warehouse to your door, and tell a neighbour to take it in "
    "when you are not at home. Keep this letter until the parcel is there.</p>\n"
)
CSS = "h1 { font: 600 24px sans-serif } p { margin: 0 0 12px; line-height: 1.5 } .lead { font-weight: bold }"


def profile(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "postroom.dev/v1alpha1",
        "kind": "SmtpProfile",
        "metadata": {"name": f"profile-{number:02}"},
        "spec": {"from": {"name": "Larkfield", "address": "orders@larkfield.example"}},
    }


def template(number: int, edit: str = "") -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "apiVersion": "postroom.dev/v1alpha1",
        "kind": "EmailTemplate",
        "metadata": {"name": f"template-{number:04}"},
        "spec": {
            "smtpProfileRef": {"name": f"profile-{number % PROFILES:02}"},
            "eventTypes": [f"shop.event-{number}"],
            "subject": f"Order {{{{ order }}}} ({number})",
            "html": f"<h1>On its way {number}{edit}</h1>\n" + PARAGRAPH * 6,
            "css": CSS,
            "variables": {
                "type": "object",
                "required": ["first_name", "order"],
                "properties": {"first_name": text, "order": text, "carrier": {**text, "default": "the post"}},
            },
            "samples": [{"name": "ada", "data": {"first_name": "Ada", "order": "4711"}}],
        },
    }


@contextmanager
def operator(cluster: ControlPlane, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    (port,) = free_ports(1)
    environment = {
        "PATH": os.environ["PATH"],
        "KUBECONFIG": str(cluster.kubeconfig),
        "POSTROOM_IMAGE": "postroom:bench",
        "POSTROOM_OPERATOR_HTTP": f"127.0.0.1:{port}",
        "POSTROOM_CONNECTIONS": str(folder / "none"),
        "POSTROOM_NAMESPACES": os.environ.get("POSTROOM_NAMESPACES", ""),
    }
    command = json.loads(os.environ.get("BENCH_COMMAND", "null")) or [
        sys.executable,
        "-m",
        "postroom_operator",
    ]
    with (folder / "operator.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stderr=log)
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            assert process.wait(60) == 0


def make(cluster: ControlPlane, namespace: str) -> None:
    def create(item: dict[str, Any]) -> None:
        path = f"{GROUP}/{namespace}/{'smtpprofiles' if item['kind'] == 'SmtpProfile' else 'emailtemplates'}"
        cluster.api.post(path, json=item).raise_for_status()

    items = [*map(profile, range(PROFILES)), *map(template, range(TEMPLATES))]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, items))


def proved(cluster: ControlPlane, namespace: str) -> int:
    found = cluster.api.get(f"{GROUP}/{namespace}/emailtemplates", params={"resourceVersion": "0"}).json()
    return sum(bool(each.get("status", {}).get("revision")) for each in found["items"])


def writes(page: str) -> dict[str, float]:
    """Writes so far by verb and kind; the Lease's renewals are no writes of work."""
    lines = httpx.get(f"{page}/metrics").text.splitlines()
    found = {}
    for line in lines:
        if line.startswith("postroom_operator_requests_total") and 'kind="Lease"' not in line:
            name, _, value = line.rpartition(" ")
            if 'verb="GET"' not in name:
                found[name] = float(value)
    return found


def weight(pid: int) -> dict[str, float]:
    """Megabytes of the operator and of its provers: resident, and proportional (shared pages once)."""
    found = {}
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for name, each in [("operator", str(pid)), *((f"prover {n}", child) for n, child in enumerate(children))]:
        rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
        kilobytes = {line.split(":")[0]: line.split()[1] for line in rollup.splitlines() if "kB" in line}
        found[name] = round(int(kilobytes["Pss"]) / 1024, 1)
        found[f"{name} resident"] = round(int(kilobytes["Rss"]) / 1024, 1)
    return found


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spent(cluster: ControlPlane, operator: int | None = None) -> dict[str, float]:
    """Seconds of CPU so far of the control plane's programs, of the operator, and of its provers together."""
    found = {each.name: cpu(each.pid) for each in (cluster.etcd, cluster.apiserver, cluster.controllers)}
    if operator is not None:
        children = Path(f"/proc/{operator}/task/{operator}/children").read_text().split()
        found |= {"operator": cpu(operator), "provers": sum(cpu(int(child)) for child in children)}
    return found


def test_two_thousand_templates(cluster: ControlPlane, namespace: str, tmp_path: Path) -> None:
    make(cluster, namespace)
    before, began = spent(cluster), time.monotonic()
    with operator(cluster, tmp_path) as (process, page):
        wait_for(lambda: statuses(page) >= TEMPLATES)
        took = time.monotonic() - began
        count = PROFILES + TEMPLATES
        say(f"cold: {count} objects in {took:.1f} s, {count / took:.0f} a second, with the process's start")
        each = {name: now - before.get(name, 0.0) for name, now in spent(cluster, process.pid).items()}
        shares = ", ".join(f"{name} {seconds / count * 1e3:.1f}" for name, seconds in each.items())
        say(f"ms of CPU an object: {shares}; load average {os.getloadavg()[0]:.1f}")
        say(f"weight in MB: {weight(process.pid)}")
        settle(page)
        assert proved(cluster, namespace) == TEMPLATES
        written = writes(page)
        time.sleep(REST_SECONDS)
        rest = {name: value for name, value in writes(page).items() if value != written.get(name)}
        say(
            f"at rest: {rest or 'no'} writes in {REST_SECONDS:.0f} s; before: {json.dumps(written, indent=1)}"
        )
        times = sorted(edit(cluster, namespace, number) for number in range(0, 1000, 100))
        say(
            f"an edit is in its ConfigMap after {times[5]:.2f} s (median), {times[-1]:.2f} s (slowest of ten)"
        )
        say(f"weight in MB: {weight(process.pid)}")
    with operator(cluster, tmp_path) as (process, page):
        wait_for(lambda: reconciles(page) > 0)
        took, began = edit(cluster, namespace, PROFILES - 1), time.monotonic()
        wait_for(lambda: reconciles(page) >= PROFILES)
        say(
            f"an edit right after a restart is in its ConfigMap after {took:.2f} s; "
            f"all was proved anew {time.monotonic() - began:.0f} s later"
        )
    assert not rest


def say(line: str) -> None:
    print(f"\n{line}", end="")


def statuses(page: str) -> float:
    """How many statuses of templates were written."""
    try:
        return sum(value for name, value in writes(page).items() if 'kind="EmailTemplate"' in name)
    except httpx.TransportError:
        return 0  # it has only just begun


def reconciles(page: str) -> float:
    """How many reconciles of profiles ended."""
    try:
        lines = httpx.get(f"{page}/metrics").text.splitlines()
    except httpx.TransportError:
        return 0  # it has only just begun
    counts = (line for line in lines if line.startswith("postroom_operator_reconciles_total"))
    return sum(float(line.rpartition(" ")[2]) for line in counts if 'kind="SmtpProfile"' in line)


def wait_for(true: Callable[[], bool]) -> None:
    """Look once a second: at 2,000 objects a look takes the operator 20 ms, which are part of the load."""
    deadline = time.monotonic() + 240
    while not true():
        assert time.monotonic() < deadline
        time.sleep(1.0)


def settle(page: str) -> None:
    """Wait until ten seconds pass without a write."""
    last, since = writes(page), time.monotonic()
    while time.monotonic() - since < 10:
        time.sleep(0.5)
        if (now := writes(page)) != last:
            last, since = now, time.monotonic()


def edit(cluster: ControlPlane, namespace: str, number: int) -> float:
    mark = f" edited {number} {time.monotonic_ns()}"
    item = template(number, mark)
    path = f"{GROUP}/{namespace}/emailtemplates/{item['metadata']['name']}"
    headers = {"Content-Type": "application/merge-patch+json"}
    cluster.api.patch(path, json={"spec": {"html": item["spec"]["html"]}}, headers=headers).raise_for_status()
    began = time.monotonic()
    labels = {"labelSelector": f"postroom.dev/profile=profile-{number % PROFILES:02}"}
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    cluster.until(lambda: mark in cluster.api.get(maps, params=labels).text, 60)
    return time.monotonic() - began
