"""The walls around a profile's workers: ProfileView → NetworkPolicy.

Who may come in: pods of this cluster, at the port of health, metrics and status. Where workers may go: DNS,
the ports of Kafka and the ledger at any address, and the sandbox, or in mode SMTP the ports of the relay and
of the fallback's; for callbacks their ports at public addresses and at those that an administrator allows.
Kafka's and the ledger's addresses are in a Secret that the operator does not read, so a policy can name their
ports only. It backs the guard up and is no proof: a relay that listened at Kafka's port could be reached.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict

from pydantic import TypeAdapter, ValidationError

from postroom.letter.allowlist import read_allowlist
from postroom.letter.profile import SmtpProfile
from postroom_operator import names
from postroom_operator.desired.inputs import EffectiveProfile, KafkaAccess, OperatorDefaults, owner_reference
from postroom_operator.desired.pod import Fields
from postroom_operator.models import Manifest

DNS_PORTS = (53, 5353)
"""A policy sees the pod's port, not the Service's: OpenShift's DNS pods listen at 5353."""
KAFKA_PORTS = (9092, 9093, 9094)
LEDGER_PORTS = (5432,)
MAIL_PORTS = (25, 465, 587, 2525)
"""Where relays listen: submission (RFC 6409, RFC 8314), transport, and the usual alternative."""
PUBLIC = (
    {
        "ipBlock": {
            "cidr": "0.0.0.0/0",
            "except": ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"],
        }
    },
    {"ipBlock": {"cidr": "::/0", "except": ["fc00::/7", "fe80::/10"]}},
)
"""The Internet, without the ranges that clusters and clouds use for themselves."""
SANDBOX_SMTP, SANDBOX_HTTP = 1025, 8025
BOUNCES_SMTP, BOUNCES_HTTP = 2525, 9465
_ACCESS = TypeAdapter(KafkaAccess)


def worker_policy(view: EffectiveProfile, fixed: OperatorDefaults) -> Manifest:
    """What workers of a profile may be asked, and whom they may ask."""
    profile = view.profile
    labels = names.labels("worker", profile.metadata.name)
    spec = {
        "podSelector": {"matchLabels": names.selector(labels)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"namespaceSelector": {}}], "ports": [_tcp(names.WORKER_HTTP_PORT)]}],
        "egress": [
            dns_egress(),
            *_kafka_and_ledger_egress(fixed),
            *_mail_egress(view),
            *_callback_egress(view, fixed),
            *_additional_egress(view),
        ],
    }
    metadata = {
        "name": names.worker_object(profile.metadata.name),
        "namespace": profile.metadata.namespace,
        "labels": labels,
        "ownerReferences": [owner_reference(profile, view.uid)],
    }
    if fixed.kafka.bootstrap_servers:
        metadata["annotations"] = {names.KAFKA: json.dumps(asdict(fixed.kafka), sort_keys=True)}
    return _policy(metadata, spec)


def last_kafka_access(found: Iterable[Manifest]) -> KafkaAccess:
    """How the brokers were reached when a profile's objects were written; without brokers where none says."""
    for each in found:
        text = each["metadata"].get("annotations", {}).get(names.KAFKA)
        if each["kind"] == "NetworkPolicy" and text:
            with suppress(ValidationError):  # somebody's edit
                return _ACCESS.validate_json(text)
    return KafkaAccess()


def sandbox_policy(metadata: Fields) -> Manifest:
    """The sandbox takes letters from workers and shows them in its own namespace; it sends nothing at all.

    Its figures are on the inbox's port, and a policy knows no paths: who scrapes from elsewhere could read
    letters. So the port is not opened to other namespaces, and the chart's PodMonitor leaves sandboxes out.
    """
    workers = {"matchLabels": {names.NAME: "postroom", names.COMPONENT: "worker"}}
    spec = {
        "podSelector": {"matchLabels": names.selector(metadata["labels"])},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"from": [{"podSelector": workers}], "ports": [_tcp(SANDBOX_SMTP)]},
            {"from": [{"podSelector": {}}], "ports": [_tcp(SANDBOX_HTTP)]},
        ],
        "egress": [dns_egress()],
    }
    return _policy(metadata, spec)


def bounces_policy(metadata: Fields) -> Manifest:
    """The intake takes mail from anywhere, asks the ledger, and sends nothing."""
    spec = {
        "podSelector": {"matchLabels": names.selector(metadata["labels"])},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"ports": [_tcp(BOUNCES_SMTP)]},
            {"from": [{"namespaceSelector": {}}], "ports": [_tcp(BOUNCES_HTTP)]},
        ],
        "egress": [dns_egress(), {"ports": [_tcp(port) for port in LEDGER_PORTS]}],
    }
    return _policy(metadata, spec)


def dns_egress() -> Fields:
    """Name resolution, wherever the cluster has it (a node-local cache is no pod)."""
    return {
        "ports": [{"protocol": protocol, "port": port} for port in DNS_PORTS for protocol in ("UDP", "TCP")]
    }


def _kafka_and_ledger_egress(fixed: OperatorDefaults) -> Iterator[Fields]:
    told = re.findall(r":(\d{1,5})(?=,|\s|$)", fixed.kafka.bootstrap_servers)
    ports = {*KAFKA_PORTS, *LEDGER_PORTS, *map(int, told)}
    yield {"ports": [_tcp(port) for port in sorted(ports)]}


def _mail_egress(view: EffectiveProfile) -> Iterator[Fields]:
    """Where letters leave: the sandbox of this namespace, the relay's port, or nowhere."""
    if view.mode == "Sandbox":
        # the inbox too: `postroom erase --inbox` runs in this pod, which sent there what it reads there
        sandbox = {"matchLabels": names.selector(names.labels("sandbox"))}
        yield {"to": [{"podSelector": sandbox}], "ports": [_tcp(SANDBOX_SMTP), _tcp(SANDBOX_HTTP)]}
    elif view.mode == "SMTP":
        relays = [each.spec.smtp for each in (view.profile, view.usable_fallback) if each and each.spec.smtp]
        yield {"ports": [_tcp(port) for port in sorted({relay.port for relay in relays})]}


def _callback_egress(view: EffectiveProfile, fixed: OperatorDefaults) -> Iterator[Fields]:
    """Where callbacks go. A policy knows no names: a host that is allowed opens its port to any address."""
    closed = set() if view.mode == "SMTP" else _relay_ports(view.profile)
    callbacks = [one for one in view.profile.spec.callbacks if one.port not in closed]
    allowed = read_allowlist(fixed.callback_allow)
    listed = {one.port for one in callbacks if allowed.lists_host(one.host, plain=one.plain)}
    if listed:
        yield {"ports": [_tcp(port) for port in sorted(listed)]}
    ports = [_tcp(port) for port in sorted({one.port for one in callbacks} - listed)]
    if ports:
        ranges = [{"ipBlock": {"cidr": str(network)}} for _, network in allowed.networks]
        yield {"to": [*PUBLIC, *ranges], "ports": ports}


def _additional_egress(view: EffectiveProfile) -> Iterator[Fields]:
    """What the profile adds; where no letter may leave, not at the ports of relays."""
    peers = view.profile.spec.network_policy.peers
    if peers and view.mode == "SMTP":
        yield {"to": peers}
    elif peers:
        yield {"to": peers, "ports": list(_all_but(_relay_ports(view.profile)))}


def _relay_ports(profile: SmtpProfile) -> set[int]:
    return {*MAIL_PORTS, *([profile.spec.smtp.port] if profile.spec.smtp else [])}


def _all_but(ports: Iterable[int]) -> Iterator[Fields]:
    first = 1
    for port in (*sorted(ports), 65536):
        if first < port - 1:
            yield {"protocol": "TCP", "port": first, "endPort": port - 1}
        elif first == port - 1:
            yield _tcp(first)
        first = port + 1


def _tcp(port: int) -> Fields:
    return {"protocol": "TCP", "port": port}


def _policy(metadata: Fields, spec: Fields) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": spec,
    }
