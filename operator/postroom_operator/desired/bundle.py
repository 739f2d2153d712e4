"""A profile's templates in shards: CompiledTemplates and what is served now → the texts of its ConfigMaps.

A template stays in its shard as long as it fits there; adding, changing or removing one moves no other. So
an edit writes one small ConfigMap, and what an operator finds after its restart is all that it has to know.
What does not fit is never dropped in silence: it is named with its size and the limit, and a template
that was served before and has grown too large serves its last good revision.

The ConfigMaps of one profile: its manifest, and the shards of its bundle.
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
"""Bytes of a shard: a quarter of what a ConfigMap may hold."""
SOFT_LIMIT = 64 * 1024
"""Bytes up to which a shard is filled while there is another: an edit writes its whole shard."""


@dataclass(frozen=True, slots=True)
class ServedTemplate:
    """A template as workers have it now."""

    shard: int
    template: CompiledTemplate


@dataclass(frozen=True, slots=True)
class Bundle:
    """What becomes of a profile's templates."""

    shards: Mapping[int, str]
    """The text of each shard; shard 0 is always there."""
    served: Mapping[str, CompiledTemplate]
    """What workers get, by name; an older revision where the newest does not fit."""
    problems: Mapping[str, Problem]
    """By name: the templates whose newest revision does not fit."""
    irreplaceable: Mapping[str, str] = field(default_factory=dict)
    """Templates for whose sake the shards stay as another release wrote them, and what is wrong with each."""

    @property
    def hash(self) -> str:
        """Of all the texts; the same templates in the same shards have the same."""
        texts = (f"{shard}\n{text}" for shard, text in sorted(self.shards.items()))
        return names.digest("\n".join(texts), 16)

    @property
    def obstacle(self) -> tuple[str, ...]:
        """Why the shards are not as they should be, if they are not."""
        if not self.irreplaceable:
            return ()
        name, why = next(iter(self.irreplaceable.items()))
        others = f" and {len(self.irreplaceable) - 1} more" if len(self.irreplaceable) > 1 else ""
        kept = "workers keep a bundle that another release wrote and this one cannot read"
        return (
            f"{kept}, for EmailTemplate {name}{others} would be lost ({why}); mend it, or run that release",
        )


@dataclass(slots=True)
class _ShardPacker:
    """The shards while they are filled: name → line in each, and the bytes taken."""

    lines: list[dict[str, str]] = field(default_factory=lambda: [{} for _ in range(names.SHARDS)])
    used: list[int] = field(default_factory=lambda: [FRAME_BYTES] * names.SHARDS)

    def fits(self, shard: int, name: str, size: int, room: int) -> bool:
        """Whether a line fits, in place of the one that the same template has there already."""
        return self.used[shard] - self._taken(shard, name) + size <= room

    def put(self, shard: int, name: str, text: str) -> None:
        self.used[shard] += line_bytes(text) - self._taken(shard, name)
        self.lines[shard][name] = text

    def take(self, shard: int, name: str) -> None:
        self.used[shard] -= self._taken(shard, name)
        self.lines[shard].pop(name, None)

    def place_for(self, name: str, size: int) -> int | None:
        """The first shard with room to spare, else the emptiest one that takes it, else None."""
        for shard in range(names.SHARDS):
            if self.fits(shard, name, size, SOFT_LIMIT):
                return shard
        shard = min(range(names.SHARDS), key=lambda each: self.used[each])
        return shard if self.fits(shard, name, size, HARD_LIMIT) else None

    def _taken(self, shard: int, name: str) -> int:
        before = self.lines[shard].get(name)
        return 0 if before is None else line_bytes(before)


def read_shards(texts: Mapping[int, str]) -> dict[str, ServedTemplate]:
    """What is served now, from the shards as they were found; one that cannot be read is as good as none."""
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
    standings: Iterable[TemplateState], before: Mapping[str, ServedTemplate], foreign: Mapping[int, str]
) -> Bundle:
    """What becomes of a profile's templates where they stand.

    `foreign`: the texts of the shards where one is in another release's format. They stay as they are for as
    long as a template that is live in them, by its own status, cannot be made here: it would be gone.
    """
    known = [*standings]
    bundle = assign([each.serving for each in known if each.serving], before)
    missed = dict(_irreplaceable(known)) if foreign else {}
    return replace(bundle, shards=foreign, irreplaceable=missed) if missed else bundle


def _irreplaceable(standings: Iterable[TemplateState]) -> Iterator[tuple[str, str]]:
    for each in standings:
        if each.serving is None and (each.manifest.get("status") or {}).get("revision"):
            problem = each.problems[0] if each.problems else None
            why = f"{problem.field}: {problem.message}" if problem else "its proof is under way"
            yield each.manifest["metadata"]["name"], why


def assign(compiled: Iterable[CompiledTemplate], before: Mapping[str, ServedTemplate]) -> Bundle:
    """Put each template into its shard.

    What is served now keeps its place and its room until its newer revision has found its own: nobody
    else's edit can push it out.
    """
    wanted = {each.name: each for each in compiled}
    shelf, served, problems = _ShardPacker(), dict[str, CompiledTemplate](), dict[str, Problem]()
    stays = {name: old for name, old in before.items() if name in wanted and 0 <= old.shard < names.SHARDS}
    for name, old in sorted(stays.items()):
        text = bundle_line(old.template)
        if shelf.fits(old.shard, name, line_bytes(text), HARD_LIMIT):
            shelf.put(old.shard, name, text)
            served[name] = old.template
    for name, template in sorted(wanted.items()):
        if served.get(name) == template:
            continue
        text = bundle_line(template)
        place = _place(shelf, name, text, stays[name].shard if name in served else None)
        if place is None:
            problems[name] = _does_not_fit(name, line_bytes(text), held=name in served)
        else:
            served[name] = template
    shards = {
        shard: join_bundle(lines[name] for name in sorted(lines))
        for shard, lines in enumerate(shelf.lines)
        if lines or shard == 0
    }
    return Bundle(shards, served, problems)


def _place(shelf: _ShardPacker, name: str, text: str, now: int | None) -> int | None:
    """Put a line where it is now, or else where there is room; None: nowhere, and nothing has changed."""
    size = line_bytes(text)
    place = (
        now if now is not None and shelf.fits(now, name, size, HARD_LIMIT) else shelf.place_for(name, size)
    )
    if place is not None:
        if now is not None and now != place:
            shelf.take(now, name)
        shelf.put(place, name, text)
    return place


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
    return Problem(Code.TOO_LARGE, "spec", rule + ("; its last good revision serves on" if held else ""))


def profile_config_map(view: EffectiveProfile) -> Manifest:
    """The profile as its workers read it, and beside it the one whose relay takes over."""
    data = {
        "profile.yaml": _profile_text(
            view.profile, {names.PROFILE_HASH: profile_hash(view.profile, view.usable_fallback)}
        )
    }
    if view.usable_fallback:
        data["fallback.yaml"] = _profile_text(view.usable_fallback, {})
    return _config_map(view, names.profile_config_map(view.profile.metadata.name), "profile", data)


def _profile_text(profile: SmtpProfile, annotations: dict[str, str]) -> str:
    """Without status, as JSON (which is YAML); marked, for workers of an earlier release read it as well."""
    text = profile.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"status"})
    text["metadata"] = {
        "name": profile.metadata.name,
        "namespace": profile.metadata.namespace,
        "annotations": {FORMAT_ANNOTATION: PROFILE_FORMAT, **annotations},
    }
    return json.dumps(text, ensure_ascii=False, indent=1) + "\n"


def bundle_config_maps(view: EffectiveProfile) -> list[Manifest]:
    """One ConfigMap for each shard that there is."""
    name = view.profile.metadata.name
    return [
        _config_map(view, names.bundle_config_map(name, shard), "bundle", {names.shard_key(shard): text})
        for shard, text in sorted(view.shards.items())
    ]


def _config_map(view: EffectiveProfile, name: str, component: str, data: dict[str, str]) -> Manifest:
    profile = view.profile
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": profile.metadata.namespace,
            "labels": names.labels(component, profile.metadata.name),
            "ownerReferences": [owner_reference(profile, view.uid)],
        },
        "data": data,
    }
