"""The NetworkPolicies of workers, sandboxes and bounce servers. Pure.

Workers accept connections from pods of this cluster at the port of health, metrics and status. They may
connect to DNS, to the ports of Kafka and of the ledger at any address, and to the sandbox, or in mode SMTP to
the ports of the relay and of the fallback's relay; for callbacks to their ports at public addresses and at
those that an administrator allows.

The addresses of Kafka and the ledger are in a Secret that the operator does not read, so that a policy can
name their ports only. The policy supports the delivery guard and does not replace it: a relay that listens at
Kafka's port could be reached.
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
"""A policy applies to the port of the pod, not of the Service: OpenShift's DNS pods listen at 5353."""
KAFKA_PORTS = (9092, 9093, 9094)
LEDGER_PORTS = (5432,)
MAIL_PORTS = (25, 465, 587, 2525)
"""The ports of relays: submission (RFC 6409, RFC 8314), transport, and the usual alternative."""
PUBLIC = (
    {
        "ipBlock": {
            "cidr": "0.0.0.0/0",
            "except": ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"],
        }
    },
    {"ipBlock": {"cidr": "::/0", "except": ["fc00::/7", "fe80::/10"]}},
)
"""The Internet, without the private ranges of clusters and clouds."""
SANDBOX_SMTP, SANDBOX_HTTP = 1025, 8025
BOUNCES_SMTP, BOUNCES_HTTP = 2525, 9465
_ACCESS = TypeAdapter(KafkaAccess)


def worker_policy(effective: EffectiveProfile, defaults: OperatorDefaults) -> Manifest:
    """The NetworkPolicy of a profile's workers."""
    profile = effective.profile
    labels = names.labels("worker", profile.metadata.name)
    spec = {
        "podSelector": {"matchLabels": names.selector(labels)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"namespaceSelector": {}}], "ports": [_tcp(names.WORKER_HTTP_PORT)]}],
        "egress": [
            dns_egress(),
            *_kafka_and_ledger_egress(defaults),
            *_mail_egress(effective),
            *_callback_egress(effective, defaults),
            *_additional_egress(effective),
        ],
    }
    metadata = {
        "name": names.worker_object(profile.metadata.name),
        "namespace": profile.metadata.namespace,
        "labels": labels,
        "ownerReferences": [owner_reference(profile, effective.uid)],
    }
    if defaults.kafka.bootstrap_servers:
        metadata["annotations"] = {names.KAFKA: json.dumps(asdict(defaults.kafka), sort_keys=True)}
    return _policy(metadata, spec)


def last_kafka_access(children: Iterable[Manifest]) -> KafkaAccess:
    """The way to the brokers that a profile's objects were written with; empty where none has it."""
    for child in children:
        text = child["metadata"].get("annotations", {}).get(names.KAFKA)
        if child["kind"] == "NetworkPolicy" and text:
            with suppress(ValidationError):  # a user may have edited it
                return _ACCESS.validate_json(text)
    return KafkaAccess()


def sandbox_policy(metadata: Fields) -> Manifest:
    """The NetworkPolicy of a sandbox: letters from workers, the inbox for its own namespace, no connections
    out.

    Metrics are on the port of the inbox, and a policy cannot distinguish paths: a client that may scrape
    could read letters. So the port is closed to other namespaces, and the chart's PodMonitor excludes
    sandboxes.
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
    """The NetworkPolicy of a bounce server: mail from anywhere, the ledger, no other connections out."""
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
    """Name resolution at any address, because a node-local DNS cache is no pod."""
    return {
        "ports": [{"protocol": protocol, "port": port} for port in DNS_PORTS for protocol in ("UDP", "TCP")]
    }


def _kafka_and_ledger_egress(defaults: OperatorDefaults) -> Iterator[Fields]:
    listed = re.findall(r":(\d{1,5})(?=,|\s|$)", defaults.kafka.bootstrap_servers)
    ports = {*KAFKA_PORTS, *LEDGER_PORTS, *map(int, listed)}
    yield {"ports": [_tcp(port) for port in sorted(ports)]}


def _mail_egress(effective: EffectiveProfile) -> Iterator[Fields]:
    """The destination of letters: the namespace's sandbox, the relays' ports, or none in mode Log."""
    if effective.mode == "Sandbox":
        # and the inbox, for `postroom erase --inbox`, which runs in this pod
        sandbox = {"matchLabels": names.selector(names.labels("sandbox"))}
        yield {"to": [{"podSelector": sandbox}], "ports": [_tcp(SANDBOX_SMTP), _tcp(SANDBOX_HTTP)]}
    elif effective.mode == "SMTP":
        relays = [
            profile.spec.smtp
            for profile in (effective.profile, effective.usable_fallback)
            if profile and profile.spec.smtp
        ]
        yield {"ports": [_tcp(port) for port in sorted({relay.port for relay in relays})]}


def _callback_egress(effective: EffectiveProfile, defaults: OperatorDefaults) -> Iterator[Fields]:
    """The destinations of callbacks. A policy has no host names: an allowed host opens its port to any
    address.
    """
    closed = set() if effective.mode == "SMTP" else _relay_ports(effective.profile)
    callbacks = [callback for callback in effective.profile.spec.callbacks if callback.port not in closed]
    allowed = read_allowlist(defaults.callback_allow)
    listed = {
        callback.port for callback in callbacks if allowed.lists_host(callback.host, plain=callback.plain)
    }
    if listed:
        yield {"ports": [_tcp(port) for port in sorted(listed)]}
    ports = [_tcp(port) for port in sorted({callback.port for callback in callbacks} - listed)]
    if ports:
        ranges = [{"ipBlock": {"cidr": str(network)}} for _, network in allowed.networks]
        yield {"to": [*PUBLIC, *ranges], "ports": ports}


def _additional_egress(effective: EffectiveProfile) -> Iterator[Fields]:
    """The peers that the profile adds; without mode SMTP not at the ports of relays."""
    peers = effective.profile.spec.network_policy.peers
    if peers and effective.mode == "SMTP":
        yield {"to": peers}
    elif peers:
        yield {"to": peers, "ports": list(_all_but(_relay_ports(effective.profile)))}


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
