"""Names, labels, annotations and ports of the objects in the cluster. Pure.

Input: a profile's name. Output: Kubernetes names and labels. A name that is too long, holds a dot, equals one
of the fixed names or looks as if it were shortened already is shortened and ends in a hash of the whole, so
that two profiles never share an object.
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
"""On the pod template: a hash of what a worker reads at its start. A change of it rolls the workers."""
EFFECT = "postroom.dev/effect"
"""On the pod template: how a worker treats events: a mode, or `Suspended`. Workers of different effects never
run at the same time."""
BUNDLE_HASH = "postroom.dev/bundle"
"""On running pods: the hash of their templates. A change makes the kubelet refresh the volumes at once."""
DESIRED_HASH = "postroom.dev/desired-hash"
"""On every applied object: the hash of what was applied, which notices fields that are no longer desired."""

KAFKA = "postroom.dev/kafka"
"""On a profile's NetworkPolicy: the way to the brokers when it was written, for times when the operator
cannot read its own Secret. Never a credential."""

MANAGED_SELECTOR = f"{MANAGED_BY}={OPERATOR}"
"""The label selector of all objects that the operator creates."""

SANDBOX = "postroom-sandbox"
BOUNCES = "postroom-bounces"
SHARDS = 16
PROFILE_SUFFIX = "-profile"
"""The suffix of the ConfigMap with a profile's manifest."""

WORKER_HTTP_PORT = 9464
"""The port of a worker's health, metrics and /statusz."""

LABEL_LENGTH = 63
NAME_LENGTH = LABEL_LENGTH - len("-bundle-00")
"""The length of a profile's object names; with the longest suffix they are still DNS labels."""
_HASH_LENGTH = 8
_LOOKS_SHORTENED = re.compile(rf"-[0-9a-f]{{{_HASH_LENGTH}}}$")
_RESERVED = frozenset({"bounces", "connections", "gateway", "operator", "sandbox"})
"""`postroom-<name>` is an object that belongs to no profile."""


def digest(text: str, length: int = _HASH_LENGTH) -> str:
    """The first hex digits of a text's SHA-256."""
    return sha256(text.encode()).hexdigest()[:length]


def worker_object(profile: str) -> str:
    """The name of a profile's Deployment, NetworkPolicy, PodDisruptionBudget and ScaledObject."""
    wanted = f"postroom-{profile}"
    fits = "." not in wanted and len(wanted) <= NAME_LENGTH
    if fits and profile not in _RESERVED and not _LOOKS_SHORTENED.search(profile):
        return wanted
    return _shorten(wanted.replace(".", "-"), profile, NAME_LENGTH)


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
    """A name as the value of a label, shortened with a hash where it is too long."""
    return text if len(text) <= LABEL_LENGTH else _shorten(text, text, LABEL_LENGTH)


def labels(component: str, profile: str | None = None) -> dict[str, str]:
    """The labels of a profile's object; without a profile, of an object that the namespace's profiles
    share.
    """
    instance = label_value(profile) if profile is not None else component
    common = {
        NAME: "postroom",
        COMPONENT: component,
        INSTANCE: instance,
        "app.kubernetes.io/part-of": PART_OF,
        MANAGED_BY: OPERATOR,
    }
    return common if profile is None else {**common, PROFILE: instance}


def selector(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that select an object's pods; a Deployment can never change them."""
    return {key: labels[key] for key in (NAME, COMPONENT, INSTANCE)}


def _shorten(text: str, whole: str, length: int) -> str:
    stem = text[: length - _HASH_LENGTH - 1].rstrip("-.")
    return f"{stem}-{digest(whole)}"
