"""Everything that the operator knows of a key before it decides: the store → `ObservedProfile`,
`ObservedNamespace`.

This module reads the store and calls the cluster for one purpose only: an object that is about to be created
may exist already and belong to another owner (`foreign_objects`). Validation results come from the
`ValidationService`, where most are cached.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from postroom.letter.bundle import CompiledTemplate, has_unknown_format
from postroom.letter.manifest import parse_object
from postroom.letter.problems import Problem
from postroom.letter.profile import SmtpProfile
from postroom.letter.references import ObjectKey as Name
from postroom_operator.desired.bundle import ServedTemplate, read_shards
from postroom_operator.desired.inputs import EffectiveProfile
from postroom_operator.models import Cluster, Manifest, Ref, ValidationResult, ref_of
from postroom_operator.names import DELIVERY, SHARDS, bundle_config_map, label_value, shard_key
from postroom_operator.store import CREATED, ObjectStore, ReconcileKey, age_order, is_urgent
from postroom_operator.templates import ValidationContext, layout_reference, missing_layout, topic_conflict


class ValidationService(Protocol):
    """Validates templates and layouts."""

    async def validate(
        self, template: Manifest | None, layout: Manifest | None, *, urgent: bool = False
    ) -> ValidationResult | None:
        """The result, or None while the validation is in progress. `urgent`: validate it before the
        others.
        """
        ...


@dataclass(frozen=True, slots=True)
class ObservedProfile:
    """A profile, existing or not, and everything that belongs to it."""

    key: ReconcileKey
    profile: Manifest | None
    model: SmtpProfile | None
    """The profile, where it exists and is valid."""
    problems: tuple[Problem, ...]
    """The problems of the profile itself."""
    templates: tuple[Manifest, ...]
    """Sorted from old to young."""
    layouts: Mapping[str, Manifest]
    existing: frozenset[Name]
    """The profiles and layouts of the namespace, invalid ones too."""
    children: tuple[Manifest, ...]
    """The objects that the operator created for the profile, without pods."""
    pods: tuple[Manifest, ...]
    served: Mapping[str, ServedTemplate]
    """What workers have now, by template."""
    foreign_shards: Mapping[int, str]
    """The texts of all shards where another release wrote one in a format that this release cannot read; else
    empty."""
    delivery_allowed: bool
    fallback: SmtpProfile | None
    """The profile that fallbackRef names, where it exists and is valid."""
    namespace_terminating: bool
    """Whether the namespace is being deleted."""

    @property
    def group(self) -> tuple[str, str]:
        """The key of the workers' reports: the namespace, and the profile as a label's value."""
        return self.key.namespace, label_value(self.key.name)

    @property
    def urgent(self) -> bool:
        """Whether a person waits for the result: the profile, a template or its layout was edited."""
        names = {layout.name for template in self.templates if (layout := layout_reference(template))}
        layouts = (self.layouts[name] for name in names & self.layouts.keys())
        return any(is_urgent(manifest) for manifest in (self.profile, *self.templates, *layouts) if manifest)

    @property
    def validation_context(self) -> ValidationContext:
        """What the templates are compared with."""
        served = {name: known.template for name, known in self.served.items()}
        return ValidationContext(self.key.namespace, self.key.name, self.existing, self.model, served)


@dataclass(frozen=True, slots=True)
class ObservedNamespace:
    """What a namespace's profiles share: the sandbox and the bounce server."""

    sandbox_profiles: tuple[tuple[SmtpProfile, str], ...]
    """The profiles whose letters go to the sandbox, with their uids."""
    bounce_profiles: tuple[tuple[SmtpProfile, str], ...]
    """The profiles with spec.bounces, with their uids."""
    children: tuple[Manifest, ...]


_ParsedShards = dict[int, tuple[Manifest, dict[str, ServedTemplate]]]
"""The parsed shards of a profile: each shard's ConfigMap and its templates."""


class Observer:
    """Reads the store. A shard is parsed once and kept until its ConfigMap changes."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._parsed: dict[ReconcileKey, _ParsedShards] = {}

    def profile(self, key: ReconcileKey) -> ObservedProfile:
        """A profile and its templates. A profile that is being deleted counts as absent."""
        namespace = self._store.get(Ref("v1", "Namespace", "", key.namespace))
        named = [known for known in self._store.profiles_and_layouts(key.namespace) if not _is_deleted(known)]
        profiles = self._store.objects_of(key, "SmtpProfile")
        profile = next((known for known in profiles if not _is_deleted(known)), None)
        model, problems = _parse_profile(profile, named) if profile else (None, ())
        created = self._store.worker_objects(key.namespace, key.name)
        shards = _shards(key, created)
        served = self._served(key, shards, keep=profile is not None)
        return ObservedProfile(
            key=key,
            profile=profile,
            model=model,
            problems=problems,
            templates=tuple(sorted(self._store.objects_of(key, "EmailTemplate"), key=age_order)),
            layouts={known["metadata"]["name"]: known for known in named if known["kind"] == "EmailLayout"},
            existing=frozenset(
                Name(known["kind"], key.namespace, known["metadata"]["name"]) for known in named
            ),
            children=tuple(child for child in created if child["kind"] != "Pod"),
            pods=tuple(child for child in created if child["kind"] == "Pod"),
            served=served,
            foreign_shards=_foreign_shards(shards, served),
            delivery_allowed=self.delivery_allowed(key.namespace),
            fallback=_fallback(model, named),
            namespace_terminating=namespace is not None and _is_deleted(namespace),
        )

    def served(self, key: ReconcileKey) -> dict[str, CompiledTemplate]:
        """The templates that a profile's workers can read now, by name."""
        created = self._store.worker_objects(key.namespace, key.name)
        served = self._served(key, _shards(key, created), keep=True)
        return {name: known.template for name, known in served.items()}

    def namespace(self, key: ReconcileKey) -> ObservedNamespace | None:
        """What a namespace's profiles share.

        None where nothing may be changed: the namespace is being deleted, or a profile that uses the shared
        objects is invalid. The workers of an invalid profile keep running, and so do the sandbox and the
        bounce server that they use.
        """
        namespace = self._store.get(Ref("v1", "Namespace", "", key.namespace))
        allowed = self.delivery_allowed(key.namespace)
        children = [*self._store.objects_of(key, *(kind for kind in CREATED if kind != "Pod"))]
        users = {
            owner["uid"] for child in children for owner in child["metadata"].get("ownerReferences") or ()
        }
        valid: list[tuple[SmtpProfile, str]] = []
        for profile in self._store.profiles(key.namespace):
            model, _, _ = parse_object(without_status(profile), "SmtpProfile")
            uid = profile["metadata"]["uid"]
            if _is_deleted(profile):
                continue
            if isinstance(model, SmtpProfile):
                valid.append((model, uid))
            elif uid in users:
                return None
        if namespace is not None and _is_deleted(namespace):
            return None
        sandboxed = [
            (model, uid) for model, uid in valid if EffectiveProfile(model, uid, allowed).mode == "Sandbox"
        ]
        bouncing = [(model, uid) for model, uid in valid if model.spec.bounces]
        return ObservedNamespace(tuple(sandboxed), tuple(bouncing), tuple(children))

    def delivery_allowed(self, namespace: str) -> bool:
        """Whether an administrator labelled the namespace for delivery."""
        manifest = self._store.get(Ref("v1", "Namespace", "", namespace))
        return _label(manifest, DELIVERY) == "allowed"

    def _served(
        self, key: ReconcileKey, shards: Mapping[int, Manifest], *, keep: bool
    ) -> dict[str, ServedTemplate]:
        """What workers have now, from the shards in the cluster. The operator stores it nowhere else."""
        before = self._parsed.pop(key, {})
        parsed = {number: _parse_shard(number, shard, before.get(number)) for number, shard in shards.items()}
        if keep and parsed:
            self._parsed[key] = parsed
        served: dict[str, ServedTemplate] = {}
        for _, templates in parsed.values():
            served = templates | served
        return served


def _shards(key: ReconcileKey, created: Iterable[Manifest]) -> dict[int, Manifest]:
    """The ConfigMaps of a profile's bundle, by shard number.

    They are found by name: a copy that a user made has the labels as well, and no worker reads it.
    """
    maps = {child["metadata"]["name"]: child for child in created if child["kind"] == "ConfigMap"}
    names = {number: bundle_config_map(key.name, number) for number in range(SHARDS)}
    return {number: maps[name] for number, name in names.items() if name in maps}


def _foreign_shards(shards: Mapping[int, Manifest], served: Mapping[str, ServedTemplate]) -> dict[int, str]:
    texts = {number: _shard_text(number, shard) for number, shard in shards.items()}
    unread = texts.keys() - {known.shard for known in served.values()}
    return texts if any(has_unknown_format(texts[number]) for number in unread) else {}


def _shard_text(number: int, shard: Manifest) -> str:
    """A shard as workers mount it; other keys of the ConfigMap are ignored."""
    text: str = (shard.get("data") or {}).get(shard_key(number), "")
    return text


def _parse_shard(
    number: int, shard: Manifest, before: tuple[Manifest, dict[str, ServedTemplate]] | None
) -> tuple[Manifest, dict[str, ServedTemplate]]:
    if before and before[0] is shard:
        return before
    return shard, read_shards({number: _shard_text(number, shard)})


async def validate_templates(
    observed: ObservedProfile, validator: ValidationService
) -> dict[str, ValidationResult | None]:
    """The validation result of each template, by name; None while the validation is in progress."""
    urgent = observed.urgent
    names = [template["metadata"]["name"] for template in observed.templates]
    results = await asyncio.gather(
        *(_validate(template, observed, validator, urgent) for template in observed.templates)
    )
    return dict(zip(names, results, strict=True))


async def foreign_objects(
    wanted: Iterable[Manifest], known: Iterable[Manifest], cluster: Cluster
) -> list[Manifest]:
    """Read the wanted objects that the store does not know: they exist without the operator's label."""
    refs = {ref_of(manifest) for manifest in known}
    found = [await cluster.read(ref_of(manifest)) for manifest in wanted if ref_of(manifest) not in refs]
    return [manifest for manifest in found if manifest]


def without_status(manifest: Manifest) -> Manifest:
    """A manifest without its status."""
    return {key: value for key, value in manifest.items() if key != "status"}


async def _validate(
    template: Manifest, observed: ObservedProfile, validator: ValidationService, urgent: bool
) -> ValidationResult | None:
    reference = layout_reference(template)
    if reference and reference.name not in observed.layouts:
        return missing_layout(reference, observed.existing)
    layout = observed.layouts[reference.name] if reference else None
    return await validator.validate(template, layout, urgent=urgent)


def _parse_profile(
    profile: Manifest, named: Iterable[Manifest]
) -> tuple[SmtpProfile | None, tuple[Problem, ...]]:
    """The profile, or the problems that make it invalid; a topic that another profile has is one of them."""
    model, problems, _ = parse_object(without_status(profile), "SmtpProfile")
    if not isinstance(model, SmtpProfile):
        return None, problems
    conflict = topic_conflict(profile, (known for known in named if known["kind"] == "SmtpProfile"))
    return (None, (conflict,)) if conflict else (model, ())


def _fallback(model: object, named: Iterable[Manifest]) -> SmtpProfile | None:
    ref = model.spec.fallback_ref if isinstance(model, SmtpProfile) else None
    for known in named:
        if ref and (known["kind"], known["metadata"]["name"]) == ("SmtpProfile", ref.name):
            fallback, _, _ = parse_object(without_status(known), "SmtpProfile")
            return fallback if isinstance(fallback, SmtpProfile) else None
    return None


def _is_deleted(manifest: Manifest) -> bool:
    return "deletionTimestamp" in manifest["metadata"]


def _label(manifest: Manifest | None, name: str) -> str | None:
    labels: Mapping[str, str] = (manifest["metadata"].get("labels") or {}) if manifest else {}
    return labels.get(name)
