"""What the operator knows of a key before it decides: the store → the objects that belong together.

Nothing is asked of the cluster here, but for one question: an object that we are about to make for the first
time may be there already and be somebody else's. Proofs are asked of the prover, where most are known.
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
from postroom_operator.store import MADE, ObjectStore, ReconcileKey, age_order, is_urgent
from postroom_operator.templates import ValidationContext, layout_reference, missing_layout, topic_conflict


class ValidationService(Protocol):
    """Whom to ask for proofs."""

    async def validate(
        self, template: Manifest | None, layout: Manifest | None, *, first: bool = False
    ) -> ValidationResult | None:
        """What came of the proof, or None while it is being made. `first`: somebody waits for it."""
        ...


@dataclass(frozen=True, slots=True)
class ObservedProfile:
    """A profile, whether it is there or not, with all that belongs to it."""

    key: ReconcileKey
    profile: Manifest | None
    model: SmtpProfile | None
    """The profile when it is sound."""
    problems: tuple[Problem, ...]
    """What is wrong with the profile itself."""
    templates: tuple[Manifest, ...]
    """Oldest first."""
    layouts: Mapping[str, Manifest]
    existing: frozenset[Name]
    children: tuple[Manifest, ...]
    pods: tuple[Manifest, ...]
    served: Mapping[str, ServedTemplate]
    foreign_shards: Mapping[int, str]
    """The shards as they are, where this release does not read the format of one; else none."""
    delivery_allowed: bool
    fallback: SmtpProfile | None
    """The profile that this one's fallbackRef names, when it is there and sound."""
    namespace_terminating: bool
    """Whether the namespace is being deleted."""

    @property
    def group(self) -> tuple[str, str]:
        """By which the workers' reports are found."""
        return self.key.namespace, label_value(self.key.name)

    @property
    def urgent(self) -> bool:
        """Whether somebody waits for what comes of it: the profile, a template or its layout is news."""
        pages = {layout.name for each in self.templates if (layout := layout_reference(each))}
        layouts = (self.layouts[name] for name in pages & self.layouts.keys())
        return any(is_urgent(each) for each in (self.profile, *self.templates, *layouts) if each)

    @property
    def validation_context(self) -> ValidationContext:
        """What the templates are judged against."""
        served = {name: each.template for name, each in self.served.items()}
        return ValidationContext(self.key.namespace, self.key.name, self.existing, self.model, served)


@dataclass(frozen=True, slots=True)
class ObservedNamespace:
    """What a namespace's profiles share: who uses its sandbox and its intake, what is there."""

    sandbox_profiles: tuple[tuple[SmtpProfile, str], ...]
    """The profiles whose letters the sandbox keeps, with their uids."""
    bounce_profiles: tuple[tuple[SmtpProfile, str], ...]
    """Those that ask for bounces."""
    children: tuple[Manifest, ...]


_Read = dict[int, tuple[Manifest, dict[str, ServedTemplate]]]
"""What was read of a profile's shards: of each its ConfigMap and its templates."""


class Observer:
    """Reads the store; keeps what it read of a shard while the shard stays the same."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._read: dict[ReconcileKey, _Read] = {}

    def profile(self, key: ReconcileKey) -> ObservedProfile:
        """A profile and its templates. One that is being deleted is gone."""
        namespace = self._store.get(Ref("v1", "Namespace", "", key.namespace))
        named = [each for each in self._store.profiles_and_layouts(key.namespace) if not _ends(each)]
        profile = next((each for each in self._store.objects_of(key, "SmtpProfile") if not _ends(each)), None)
        model, faults = _understood(profile, named) if profile else (None, ())
        made = self._store.worker_objects(key.namespace, key.name)
        shards = _shards(key, made)
        served = self._served(key, shards, keep=profile is not None)
        return ObservedProfile(
            key=key,
            profile=profile,
            model=model,
            problems=faults,
            templates=tuple(sorted(self._store.objects_of(key, "EmailTemplate"), key=age_order)),
            layouts={each["metadata"]["name"]: each for each in named if each["kind"] == "EmailLayout"},
            existing=frozenset(Name(each["kind"], key.namespace, each["metadata"]["name"]) for each in named),
            children=tuple(each for each in made if each["kind"] != "Pod"),
            pods=tuple(each for each in made if each["kind"] == "Pod"),
            served=served,
            foreign_shards=_foreign(shards, served),
            delivery_allowed=self.delivery_allowed(key.namespace),
            fallback=_fallback(model, named),
            namespace_terminating=namespace is not None and _ends(namespace),
        )

    def served(self, key: ReconcileKey) -> dict[str, CompiledTemplate]:
        """What a profile's workers can read now, by template."""
        found = self._served(
            key, _shards(key, self._store.worker_objects(key.namespace, key.name)), keep=True
        )
        return {name: each.template for name, each in found.items()}

    def namespace(self, key: ReconcileKey) -> ObservedNamespace | None:
        """What a namespace's profiles share.

        None where nothing may be said: the namespace ends, or a user is faulty.
        """
        namespace = self._store.get(Ref("v1", "Namespace", "", key.namespace))
        allowed = self.delivery_allowed(key.namespace)
        children = [*self._store.objects_of(key, *(kind for kind in MADE if kind != "Pod"))]
        users = {owner["uid"] for each in children for owner in each["metadata"].get("ownerReferences") or ()}
        sound: list[tuple[SmtpProfile, str]] = []
        for each in self._store.profiles(key.namespace):
            model, _, _ = parse_object(without_status(each), "SmtpProfile")
            uid = each["metadata"]["uid"]
            if _ends(each):
                continue
            if not isinstance(model, SmtpProfile):
                if uid in users:
                    return None  # its workers go on as they were, and so does what they send to
            else:
                sound.append((model, uid))
        if namespace is not None and _ends(namespace):
            return None
        owners = [each for each in sound if EffectiveProfile(*each, allowed).mode == "Sandbox"]
        bouncing = [each for each in sound if each[0].spec.bounces]
        return ObservedNamespace(tuple(owners), tuple(bouncing), tuple(children))

    def delivery_allowed(self, namespace: str) -> bool:
        """Whether an administrator labelled the namespace for delivery."""
        found = self._store.get(Ref("v1", "Namespace", "", namespace))
        return _label(found, DELIVERY) == "allowed"

    def _served(
        self, key: ReconcileKey, shards: Mapping[int, Manifest], *, keep: bool
    ) -> dict[str, ServedTemplate]:
        """What workers have now, from the shards in the cluster: they are the operator's only memory."""
        before = self._read.pop(key, {})
        found = {number: _as_read(number, shard, before.get(number)) for number, shard in shards.items()}
        if keep and found:
            self._read[key] = found
        served: dict[str, ServedTemplate] = {}
        for _, templates in found.values():
            served = templates | served
        return served


def _shards(key: ReconcileKey, made: Iterable[Manifest]) -> dict[int, Manifest]:
    """The ConfigMaps of a profile's bundle, by their number.

    Found by name: somebody else's copy of one has its labels too, and no worker reads it.
    """
    maps = {each["metadata"]["name"]: each for each in made if each["kind"] == "ConfigMap"}
    names = {number: bundle_config_map(key.name, number) for number in range(SHARDS)}
    return {number: maps[name] for number, name in names.items() if name in maps}


def _foreign(shards: Mapping[int, Manifest], served: Mapping[str, ServedTemplate]) -> dict[int, str]:
    texts = {number: _text(number, shard) for number, shard in shards.items()}
    unread = texts.keys() - {each.shard for each in served.values()}
    return texts if any(has_unknown_format(texts[number]) for number in unread) else {}


def _text(number: int, shard: Manifest) -> str:
    """A shard as workers mount it, whatever else somebody put into the ConfigMap."""
    text: str = (shard.get("data") or {}).get(shard_key(number), "")
    return text


def _as_read(
    number: int, shard: Manifest, before: tuple[Manifest, dict[str, ServedTemplate]] | None
) -> tuple[Manifest, dict[str, ServedTemplate]]:
    if before and before[0] is shard:
        return before
    return shard, read_shards({number: _text(number, shard)})


async def validate_templates(
    seen: ObservedProfile, prover: ValidationService
) -> dict[str, ValidationResult | None]:
    """The proof of each template, by name; None while it is being made."""
    names, first = [template["metadata"]["name"] for template in seen.templates], seen.urgent
    found = await asyncio.gather(*(_proof(template, seen, prover, first) for template in seen.templates))
    return dict(zip(names, found, strict=True))


async def foreign_objects(
    wanted: Iterable[Manifest], known: Iterable[Manifest], cluster: Cluster
) -> list[Manifest]:
    """What is there under the names of objects that we do not know, and without our label."""
    there = {ref_of(each) for each in known}
    found = [await cluster.read(ref_of(each)) for each in wanted if ref_of(each) not in there]
    return [each for each in found if each]


def without_status(manifest: Manifest) -> Manifest:
    """A manifest without its status, as its writer knows it."""
    return {key: value for key, value in manifest.items() if key != "status"}


async def _proof(
    template: Manifest, seen: ObservedProfile, prover: ValidationService, first: bool
) -> ValidationResult | None:
    layout = layout_reference(template)
    if layout and layout.name not in seen.layouts:
        return missing_layout(layout, seen.existing)
    page = seen.layouts[layout.name] if layout else None
    return await prover.validate(template, page, first=first)


def _understood(
    profile: Manifest, named: Iterable[Manifest]
) -> tuple[SmtpProfile | None, tuple[Problem, ...]]:
    """A profile when it is sound and no other has its topic, else why it is not."""
    model, faults, _ = parse_object(without_status(profile), "SmtpProfile")
    if not isinstance(model, SmtpProfile):
        return None, faults
    taken = topic_conflict(profile, (each for each in named if each["kind"] == "SmtpProfile"))
    return (None, (taken,)) if taken else (model, ())


def _fallback(model: object, named: Iterable[Manifest]) -> SmtpProfile | None:
    ref = model.spec.fallback_ref if isinstance(model, SmtpProfile) else None
    for each in named:
        if ref and (each["kind"], each["metadata"]["name"]) == ("SmtpProfile", ref.name):
            found, _, _ = parse_object(without_status(each), "SmtpProfile")
            return found if isinstance(found, SmtpProfile) else None
    return None


def _ends(manifest: Manifest) -> bool:
    return "deletionTimestamp" in manifest["metadata"]


def _label(manifest: Manifest | None, name: str) -> str | None:
    labels: Mapping[str, str] = (manifest["metadata"].get("labels") or {}) if manifest else {}
    return labels.get(name)
