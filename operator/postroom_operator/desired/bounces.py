"""The bounce server of a namespace: it receives mail for the return paths of the profiles. Pure.

Input: the namespace, its profiles with spec.bounces, and the operator's defaults. Output: manifests, or none
without such profiles. The server belongs to all of these profiles and is deleted with the last of them. It
mounts their profiles, the keys of their return paths and their connections Secrets, whatever their mode is,
because reports about sent letters arrive for days.
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
"""The ports of the Service."""
RESOURCES = {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"memory": "256Mi"}}
READ = {"bounces", "suppression", "kafka", "callbacks", "connections_secret_ref"}
"""The fields of a profile that the server reads at its start."""


def bounces_manifests(
    namespace: str, owners: Iterable[ProfileWithUid], defaults: OperatorDefaults
) -> list[Manifest]:
    """The objects of a namespace's bounce server, in the order in which they are applied."""
    profiles = sorted(owners, key=lambda owner: owner[0].metadata.name)
    if not profiles:
        return []
    metadata = shared_metadata(names.BOUNCES, "bounces", namespace, profiles)
    models = [profile for profile, _ in profiles]
    return [bounces_policy(metadata), _deployment(metadata, models, defaults), service(metadata, PORTS)]


def _deployment(metadata: Fields, profiles: Sequence[SmtpProfile], defaults: OperatorDefaults) -> Manifest:
    secrets = [(f"secret-{number}", name) for number, name in enumerate(secrets_of(profiles))]
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": names.selector(metadata["labels"])},
        "revisionHistoryLimit": 3,
        # the new pod first: two can receive reports concurrently, and a report that comes twice counts once
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {
            "metadata": {
                "labels": metadata["labels"],
                "annotations": {names.PROFILE_HASH: _hash(profiles)},
            },
            "spec": {
                **pod_spec(defaults),
                "containers": [_container(secrets, defaults)],
                "volumes": [
                    tmp_volume(),
                    _profiles(profiles),
                    *(secret_volume(volume, name) for volume, name in secrets),
                ],
            },
        },
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def secrets_of(profiles: Iterable[SmtpProfile]) -> list[str]:
    """The mounted Secrets: keys of return paths, and connections; sorted."""
    secrets: set[str] = set()
    for profile in profiles:
        assert profile.spec.bounces is not None
        secrets |= {profile.spec.bounces.secret_ref.name, connections_secret(profile)}
    return sorted(secrets)


def _hash(profiles: Sequence[SmtpProfile]) -> str:
    relevant = {
        profile.metadata.name: profile.spec.model_dump(mode="json", by_alias=True, include=READ)
        for profile in profiles
    }
    return names.digest(json.dumps(relevant, sort_keys=True), 16)


def _container(secrets: Sequence[tuple[str, str]], defaults: OperatorDefaults) -> Fields:
    env = [
        variable("POSTROOM_BOUNCES_SMTP", f"0.0.0.0:{BOUNCES_SMTP}"),
        variable("POSTROOM_BOUNCES_HTTP", f"0.0.0.0:{BOUNCES_HTTP}"),
        variable("POSTROOM_BOUNCES_PROFILES", PROFILES_FOLDER),
        variable("POSTROOM_SECRETS", SECRETS_FOLDER),
    ]
    mounts = [mount(volume, f"{SECRETS_FOLDER}/{name}") for volume, name in secrets]
    return {
        **container("bounces", ["bounces"], env, defaults),
        **mail_server(BOUNCES_SMTP, BOUNCES_HTTP, RESOURCES),
        "volumeMounts": [TMP, mount("profiles", PROFILES_FOLDER), *mounts],
    }


def _profiles(profiles: Sequence[SmtpProfile]) -> Fields:
    sources = [
        {
            "configMap": {
                "name": names.profile_config_map(profile.metadata.name),
                "items": [{"key": "profile.yaml", "path": f"{profile.metadata.name}.yaml"}],
            }
        }
        for profile in profiles
    ]
    return {"name": "profiles", "projected": {"sources": sources}}
