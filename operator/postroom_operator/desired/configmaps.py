"""The ConfigMaps of one profile: its manifest, and the shards of its bundle."""

import json

from postroom.letter.profile import SmtpProfile
from postroom.letter.profile_format import FORMAT_ANNOTATION, PROFILE_FORMAT
from postroom_operator import names
from postroom_operator.cluster import Manifest
from postroom_operator.desired.deployment import profile_hash
from postroom_operator.desired.view import ProfileView, owner


def profile_map(view: ProfileView) -> Manifest:
    """The profile as its workers read it, and beside it the one whose relay takes over."""
    data = {"profile.yaml": _text(view.profile, {names.PROFILE_HASH: profile_hash(view.profile, view.spare)})}
    if view.spare:
        data["fallback.yaml"] = _text(view.spare, {})
    return _map(view, names.profile_map(view.profile.metadata.name), "profile", data)


def _text(profile: SmtpProfile, annotations: dict[str, str]) -> str:
    """Without status, as JSON (which is YAML); marked, for workers of an earlier release read it as well."""
    text = profile.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"status"})
    text["metadata"] = {
        "name": profile.metadata.name,
        "namespace": profile.metadata.namespace,
        "annotations": {FORMAT_ANNOTATION: PROFILE_FORMAT, **annotations},
    }
    return json.dumps(text, ensure_ascii=False, indent=1) + "\n"


def bundle_maps(view: ProfileView) -> list[Manifest]:
    """One ConfigMap for each shard that there is."""
    name = view.profile.metadata.name
    return [
        _map(view, names.bundle_map(name, shard), "bundle", {names.shard_key(shard): text})
        for shard, text in sorted(view.shards.items())
    ]


def _map(view: ProfileView, name: str, component: str, data: dict[str, str]) -> Manifest:
    profile = view.profile
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": profile.metadata.namespace,
            "labels": names.labels(component, profile.metadata.name),
            "ownerReferences": [owner(profile, view.uid)],
        },
        "data": data,
    }
