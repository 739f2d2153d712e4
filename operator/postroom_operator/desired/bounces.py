"""The bounce intake of a namespace: the mail server of its profiles' return paths.

The namespace, the profiles that ask for bounces and the operator's settings in; manifests out, or none
where no profile does. It belongs to all of those profiles and goes with the last of them. It reads their
profiles, the keys of their return paths and their connections Secrets, whatever their mode: what was sent
comes back for days.
"""

import json
from collections.abc import Iterable, Sequence

from postroom.letter.profile import SmtpProfile
from postroom_operator import names
from postroom_operator.desired.deployment import SECRETS_FOLDER, connections_secret
from postroom_operator.desired.inputs import OperatorDefaults
from postroom_operator.desired.network import BOUNCES_HTTP, BOUNCES_SMTP, bounces_policy
from postroom_operator.desired.pod import (
    TMP,
    Fields,
    ProfileWithUid,
    container,
    mail_server,
    mount,
    pod_spec,
    secret_volume,
    service,
    shared_metadata,
    tmp_volume,
    variable,
)
from postroom_operator.models import Manifest

PROFILES_FOLDER = "/etc/postroom/profiles"
PORTS = {"smtp": 25}
"""Of the Service."""
RESOURCES = {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"memory": "256Mi"}}
READ = {"bounces", "suppression", "kafka", "callbacks", "connections_secret_ref"}
"""What the intake reads of a profile at its start."""


def bounces_manifests(
    namespace: str, owners: Iterable[ProfileWithUid], fixed: OperatorDefaults
) -> list[Manifest]:
    """What should be there for the intake of a namespace, in the order in which it is applied."""
    profiles = sorted(owners, key=lambda each: each[0].metadata.name)
    if not profiles:
        return []
    metadata = shared_metadata(names.BOUNCES, "bounces", namespace, profiles)
    models = [profile for profile, _ in profiles]
    return [bounces_policy(metadata), _deployment(metadata, models, fixed), service(metadata, PORTS)]


def _deployment(metadata: Fields, profiles: Sequence[SmtpProfile], fixed: OperatorDefaults) -> Manifest:
    secrets = [(f"secret-{number}", name) for number, name in enumerate(secrets_of(profiles))]
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": names.selector(metadata["labels"])},
        "revisionHistoryLimit": 3,
        # the new one first: two may take reports side by side, and a report twice is one
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {
            "metadata": {
                "labels": metadata["labels"],
                "annotations": {names.PROFILE_HASH: _hash(profiles)},
            },
            "spec": {
                **pod_spec(fixed),
                "containers": [_container(secrets, fixed)],
                "volumes": [tmp_volume(), _profiles(profiles), *(secret_volume(*each) for each in secrets)],
            },
        },
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def secrets_of(profiles: Iterable[SmtpProfile]) -> list[str]:
    """The Secrets that are mounted: keys of return paths and connections, sorted."""
    found: set[str] = set()
    for profile in profiles:
        assert profile.spec.bounces is not None
        found |= {profile.spec.bounces.secret_ref.name, connections_secret(profile)}
    return sorted(found)


def _hash(profiles: Sequence[SmtpProfile]) -> str:
    said = {
        each.metadata.name: each.spec.model_dump(mode="json", by_alias=True, include=READ)
        for each in profiles
    }
    return names.digest(json.dumps(said, sort_keys=True), 16)


def _container(secrets: Sequence[tuple[str, str]], fixed: OperatorDefaults) -> Fields:
    env = [
        variable("POSTROOM_BOUNCES_SMTP", f"0.0.0.0:{BOUNCES_SMTP}"),
        variable("POSTROOM_BOUNCES_HTTP", f"0.0.0.0:{BOUNCES_HTTP}"),
        variable("POSTROOM_BOUNCES_PROFILES", PROFILES_FOLDER),
        variable("POSTROOM_SECRETS", SECRETS_FOLDER),
    ]
    mounts = [mount(volume, f"{SECRETS_FOLDER}/{name}") for volume, name in secrets]
    return {
        **container("bounces", ["bounces"], env, fixed),
        **mail_server(BOUNCES_SMTP, BOUNCES_HTTP, RESOURCES),
        "volumeMounts": [TMP, mount("profiles", PROFILES_FOLDER), *mounts],
    }


def _profiles(profiles: Sequence[SmtpProfile]) -> Fields:
    sources = [
        {
            "configMap": {
                "name": names.profile_config_map(each.metadata.name),
                "items": [{"key": "profile.yaml", "path": f"{each.metadata.name}.yaml"}],
            }
        }
        for each in profiles
    ]
    return {"name": "profiles", "projected": {"sources": sources}}
