"""A profile's templates in shards, and the ConfigMaps of a profile. Pure.

Input: compiled templates and the shards that are served now. Output: the text of each shard.

A template stays in its shard as long as it fits there, and a change of one template moves no other. So an
edit writes one small ConfigMap, and an operator needs nothing but the shards after a restart. A template that
does not fit is never dropped silently: its problem gives its size and the limit, and where it was served
before, the last good revision stays.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from postroom.letter.bundle import (
    FRAME_BYTES,
    CompiledTemplate,
    bundle_line,
    join_bundle,
    line_bytes,
    unpack_bundle,
)
from postroom.letter.problems import Code, Problem, Rejected
from postroom.letter.profile import SmtpProfile
from postroom.letter.profile_format import FORMAT_ANNOTATION, PROFILE_FORMAT
from postroom_operator import names
from postroom_operator.desired.deployment import profile_hash
from postroom_operator.desired.inputs import EffectiveProfile, owner_reference
from postroom_operator.models import Manifest, TemplateState, intern

HARD_LIMIT = 256 * 1024
"""The bytes of a shard: a quarter of a ConfigMap's limit."""
SOFT_LIMIT = 64 * 1024
"""The bytes up to which a shard is filled while another has room, because an edit writes its whole shard."""


@dataclass(frozen=True, slots=True)
class ServedTemplate:
    """A template as workers have it now."""

    shard: int
    template: CompiledTemplate


@dataclass(frozen=True, slots=True)
class Bundle:
    """A profile's templates after packing."""

    shards: Mapping[int, str]
    """The text of each shard; shard 0 always exists."""
    served: Mapping[str, CompiledTemplate]
    """The templates for the workers, by name; an older revision where the newest does not fit."""
    problems: Mapping[str, Problem]
    """The problem of each template whose newest revision does not fit."""
    irreplaceable: Mapping[str, str] = field(default_factory=dict)
    """Templates that would be lost if the shards of another release were replaced, and the reason for
    each."""

    @property
    def hash(self) -> str:
        """A hash of all texts. It depends on the templates and on their shards only."""
        texts = (f"{shard}\n{text}" for shard, text in sorted(self.shards.items()))
        return names.digest("\n".join(texts), 16)

    @property
    def obstacle(self) -> tuple[str, ...]:
        """Why the shards stay as another release wrote them, if they do."""
        if not self.irreplaceable:
            return ()
        name, why = next(iter(self.irreplaceable.items()))
        others = f" and {len(self.irreplaceable) - 1} more" if len(self.irreplaceable) > 1 else ""
        message = (
            "workers keep a bundle that another release wrote and this release cannot read, because "
            f"EmailTemplate {name}{others} would be lost ({why}); correct it, or run that release"
        )
        return (message,)


@dataclass(slots=True)
class _ShardPacker:
    """The shards while they are filled: each shard's lines by template, and its used bytes."""

    lines: list[dict[str, str]] = field(default_factory=lambda: [{} for _ in range(names.SHARDS)])
    used: list[int] = field(default_factory=lambda: [FRAME_BYTES] * names.SHARDS)

    def fits(self, shard: int, name: str, size: int, limit: int) -> bool:
        """Whether a line fits into a shard, in place of the template's present line there."""
        return self.used[shard] - self._size(shard, name) + size <= limit

    def put(self, shard: int, name: str, text: str) -> None:
        self.used[shard] += line_bytes(text) - self._size(shard, name)
        self.lines[shard][name] = text

    def remove(self, shard: int, name: str) -> None:
        self.used[shard] -= self._size(shard, name)
        self.lines[shard].pop(name, None)

    def find_shard(self, name: str, size: int) -> int | None:
        """The first shard below its soft limit, else the emptiest below its hard limit, else None."""
        for shard in range(names.SHARDS):
            if self.fits(shard, name, size, SOFT_LIMIT):
                return shard
        shard = min(range(names.SHARDS), key=lambda number: self.used[number])
        return shard if self.fits(shard, name, size, HARD_LIMIT) else None

    def _size(self, shard: int, name: str) -> int:
        before = self.lines[shard].get(name)
        return 0 if before is None else line_bytes(before)


def read_shards(texts: Mapping[int, str]) -> dict[str, ServedTemplate]:
    """The templates that are served now. A shard that cannot be read is ignored."""
    found: dict[str, ServedTemplate] = {}
    for shard, text in sorted(texts.items()):
        try:
            templates = unpack_bundle(text)
        except Rejected:
            continue
        for template in templates:
            found.setdefault(template.name, ServedTemplate(shard, intern(template)))
    return found


def build_bundle(
    states: Iterable[TemplateState], before: Mapping[str, ServedTemplate], foreign: Mapping[int, str]
) -> Bundle:
    """Pack a profile's templates.

    `foreign`: the texts of all shards, where one is in the format of another release. They stay as they are
    while a template that is live in them, by its own status, cannot be compiled here: it would be lost.
    """
    known = [*states]
    bundle = assign([state.serving for state in known if state.serving], before)
    irreplaceable = dict(_irreplaceable(known)) if foreign else {}
    return replace(bundle, shards=foreign, irreplaceable=irreplaceable) if irreplaceable else bundle


def _irreplaceable(states: Iterable[TemplateState]) -> Iterator[tuple[str, str]]:
    for state in states:
        if state.serving is None and (state.manifest.get("status") or {}).get("revision"):
            problem = state.problems[0] if state.problems else None
            reason = f"{problem.field}: {problem.message}" if problem else "its validation is in progress"
            yield state.manifest["metadata"]["name"], reason


def assign(compiled: Iterable[CompiledTemplate], before: Mapping[str, ServedTemplate]) -> Bundle:
    """Assign each template to a shard.

    A template that is served keeps its shard and its bytes until its newer revision has a place, so that the
    edit of another template cannot displace it.
    """
    wanted = {template.name: template for template in compiled}
    packer, served, problems = _ShardPacker(), dict[str, CompiledTemplate](), dict[str, Problem]()
    kept = {name: old for name, old in before.items() if name in wanted and 0 <= old.shard < names.SHARDS}
    for name, old in sorted(kept.items()):
        text = bundle_line(old.template)
        if packer.fits(old.shard, name, line_bytes(text), HARD_LIMIT):
            packer.put(old.shard, name, text)
            served[name] = old.template
    for name, template in sorted(wanted.items()):
        if served.get(name) == template:
            continue
        text = bundle_line(template)
        shard = _place(packer, name, text, kept[name].shard if name in served else None)
        if shard is None:
            problems[name] = _does_not_fit(name, line_bytes(text), held=name in served)
        else:
            served[name] = template
    shards = {
        number: join_bundle(lines[name] for name in sorted(lines))
        for number, lines in enumerate(packer.lines)
        if lines or number == 0
    }
    return Bundle(shards, served, problems)


def _place(packer: _ShardPacker, name: str, text: str, current: int | None) -> int | None:
    """Put a line into its current shard, or another one with room; None where none has, and nothing
    changes.
    """
    size = line_bytes(text)
    if current is not None and packer.fits(current, name, size, HARD_LIMIT):
        shard: int | None = current
    else:
        shard = packer.find_shard(name, size)
    if shard is not None:
        if current is not None and current != shard:
            packer.remove(current, name)
        packer.put(shard, name, text)
    return shard


def _does_not_fit(name: str, size: int, *, held: bool) -> Problem:
    if size + FRAME_BYTES > HARD_LIMIT:
        rule = (
            f"template {name} takes {size} bytes once it is compiled, and a shard of the bundle holds "
            f"{HARD_LIMIT - FRAME_BYTES}; make its attachments, HTML or languages smaller"
        )
    else:
        rule = (
            f"template {name} takes {size} bytes, and none of the profile's {names.SHARDS} shards of "
            f"{HARD_LIMIT} bytes has that much room; move some templates to another SmtpProfile"
        )
    return Problem(Code.TOO_LARGE, "spec", rule + ("; its last good revision stays in use" if held else ""))


def profile_config_map(effective: EffectiveProfile) -> Manifest:
    """The ConfigMap with the profile for its workers, and with the fallback profile where it has one."""
    data = {
        "profile.yaml": _profile_text(
            effective.profile,
            {names.PROFILE_HASH: profile_hash(effective.profile, effective.usable_fallback)},
        )
    }
    if effective.usable_fallback:
        data["fallback.yaml"] = _profile_text(effective.usable_fallback, {})
    return _config_map(effective, names.profile_config_map(effective.profile.metadata.name), "profile", data)


def _profile_text(profile: SmtpProfile, annotations: dict[str, str]) -> str:
    """The profile without status, as JSON (which is YAML), with a mark of its format for workers of other
    releases.
    """
    text = profile.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"status"})
    text["metadata"] = {
        "name": profile.metadata.name,
        "namespace": profile.metadata.namespace,
        "annotations": {FORMAT_ANNOTATION: PROFILE_FORMAT, **annotations},
    }
    return json.dumps(text, ensure_ascii=False, indent=1) + "\n"


def bundle_config_maps(effective: EffectiveProfile) -> list[Manifest]:
    """One ConfigMap for each shard."""
    name = effective.profile.metadata.name
    return [
        _config_map(effective, names.bundle_config_map(name, shard), "bundle", {names.shard_key(shard): text})
        for shard, text in sorted(effective.shards.items())
    ]


def _config_map(effective: EffectiveProfile, name: str, component: str, data: dict[str, str]) -> Manifest:
    profile = effective.profile
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": profile.metadata.namespace,
            "labels": names.labels(component, profile.metadata.name),
            "ownerReferences": [owner_reference(profile, effective.uid)],
        },
        "data": data,
    }
