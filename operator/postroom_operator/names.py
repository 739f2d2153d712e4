"""What things are called in the cluster, and where they are: names, labels, annotations, a port.

A profile's name in, Kubernetes names and labels out; pure, so that everybody derives the same. A name that
is too long, holds a dot, would be one of our own fixed names or looks as if it were cut already is cut and
ends in a hash of the whole, so that two profiles never share an object.
"""

import re
from collections.abc import Mapping
from hashlib import sha256

OPERATOR = "postroom-operator"
PART_OF = "postroom"

NAME = "app.kubernetes.io/name"
COMPONENT = "app.kubernetes.io/component"
INSTANCE = "app.kubernetes.io/instance"
MANAGED_BY = "app.kubernetes.io/managed-by"
PROFILE = "postroom.dev/profile"

DELIVERY = "postroom.dev/delivery"
"""The Namespace label that lets mode SMTP take effect; its value is `allowed`."""
PROFILE_HASH = "postroom.dev/profile-hash"
"""On the pod template: what a worker reads at its start. A change of it rolls the workers."""
EFFECT = "postroom.dev/effect"
"""On the pod template: what a worker does with events: a mode, or `Suspended`. Never two of them at once."""
BUNDLE_HASH = "postroom.dev/bundle"
"""On living pods: which templates they should have. A change of it makes the kubelet look at once."""
DESIRED_HASH = "postroom.dev/desired-hash"
"""On everything we apply: what was applied, so that fields we stopped wanting are noticed."""

KAFKA = "postroom.dev/kafka"
"""On a profile's NetworkPolicy: how the brokers were reached when it was written, for times when the operator
cannot read its own Secret. Never a credential."""

MANAGED_SELECTOR = f"{MANAGED_BY}={OPERATOR}"
"""The label selector of all that the operator makes."""

SANDBOX = "postroom-sandbox"
BOUNCES = "postroom-bounces"
SHARDS = 16
PROFILE_SUFFIX = "-profile"
"""Of the ConfigMap that holds a profile's manifest."""

WORKER_HTTP_PORT = 9464
"""The port at which workers tell of their health, their figures and their state."""

LABEL_LENGTH = 63
NAME_LENGTH = LABEL_LENGTH - len("-bundle-00")
"""Of a profile's objects; the longest suffix still makes a DNS label."""
_HASH_LENGTH = 8
_LOOKS_CUT = re.compile(rf"-[0-9a-f]{{{_HASH_LENGTH}}}$")
_RESERVED = frozenset({"bounces", "connections", "gateway", "operator", "sandbox"})
"""`postroom-<one of these>` is the name of a part that belongs to no profile."""


def digest(text: str, length: int = _HASH_LENGTH) -> str:
    """The first hex digits of a text's SHA-256."""
    return sha256(text.encode()).hexdigest()[:length]


def worker_object(profile: str) -> str:
    """The name of a profile's Deployment, NetworkPolicy, PodDisruptionBudget and ScaledObject."""
    wanted = f"postroom-{profile}"
    fits = "." not in wanted and len(wanted) <= NAME_LENGTH
    if fits and profile not in _RESERVED and not _LOOKS_CUT.search(profile):
        return wanted
    return _cut(wanted.replace(".", "-"), profile, NAME_LENGTH)


def profile_config_map(profile: str) -> str:
    """The name of the ConfigMap that holds the profile's manifest."""
    return worker_object(profile) + PROFILE_SUFFIX


def bundle_config_map(profile: str, shard: int) -> str:
    """The name of the ConfigMap that holds a shard of the profile's templates."""
    return f"{worker_object(profile)}-bundle-{shard:02}"


def shard_key(shard: int) -> str:
    """The shard's key in its ConfigMap, and its file's name in a worker."""
    return f"shard-{shard:02}.json"


def label_value(text: str) -> str:
    """A name as a label's value: itself, or cut with a hash where it is too long."""
    return text if len(text) <= LABEL_LENGTH else _cut(text, text, LABEL_LENGTH)


def labels(component: str, profile: str | None = None) -> dict[str, str]:
    """The labels of an object of a profile; without one, of a part that the namespace's profiles share."""
    instance = label_value(profile) if profile is not None else component
    found = {
        NAME: "postroom",
        COMPONENT: component,
        INSTANCE: instance,
        "app.kubernetes.io/part-of": PART_OF,
        MANAGED_BY: OPERATOR,
    }
    return found if profile is None else {**found, PROFILE: instance}


def selector(of: Mapping[str, str]) -> dict[str, str]:
    """Those of an object's labels that select its pods; a Deployment can never change them."""
    return {key: of[key] for key in (NAME, COMPONENT, INSTANCE)}


def _cut(text: str, whole: str, length: int) -> str:
    stem = text[: length - _HASH_LENGTH - 1].rstrip("-.")
    return f"{stem}-{digest(whole)}"
