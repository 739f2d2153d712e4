"""What the studio shows: the templates of a folder as they are now, and what people try with them.

Input: the readings of `postroom up`, one for each save. Output: for each template its findings and the
newest revision that passed, ready to render with the code that workers use. A bad edit changes the
findings and nothing else: the last good revision stays, marked `is_behind`. Pages wait for the next
change with `Changes.after`.

All of it belongs to one event loop but for `Studio.render`, which threads may call: what it reads is
replaced and never changed.
"""

import asyncio
import contextlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from postroom.letter.bundle import CompiledTemplate
from postroom.letter.catalog import RenderedLetter, SenderMailbox
from postroom.letter.language.bounds import Timers
from postroom.letter.references import ObjectKey
from postroom.letter.renderer import TemplateRenderer
from postroom.letter.template import EmailTemplate, SampleSpec
from postroom.letter.validation.sample_runs import sample_event
from postroom.letter.validation.validate import SampleLetter, TemplateValidation
from postroom.local.manifests import Finding, ManifestSet

MOST_DRAFTS = 50
"""Data that was typed in is kept for so many forms; the oldest goes first."""


@dataclass(frozen=True, slots=True)
class ShownTemplate:
    """One template."""

    key: ObjectKey
    file: str
    source: EmailTemplate
    """The manifest that `compiled` was made of, or the newest where nothing passed yet."""
    compiled: CompiledTemplate | None
    """The newest revision that passed, which is what renders."""
    findings: tuple[Finding, ...] = ()
    is_behind: bool = False
    """Whether the newest edit did not pass, so that `compiled` is older than the file."""
    files: tuple[str, ...] = ()
    """The files that it is written in: the manifest, those beside it, and the layout's."""
    sender: SenderMailbox | None = None
    """The profile's, for a template without one."""
    results: tuple[SampleLetter, ...] = ()
    """The letters of the samples, as `compiled` makes them."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What keeps the newest edit from going live."""
        return tuple(each for each in self.findings if each.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What could be better."""
        return tuple(each for each in self.findings if each.severity == "warning")

    @property
    def locales(self) -> tuple[str, ...]:
        """The languages, the default one first."""
        if self.compiled:
            return tuple(edition.tag for edition in self.compiled.variants)
        spec = self.source.spec
        return (spec.default_locale, *(each.tag for each in spec.locales if each.tag != spec.default_locale))

    def sample(self, name: str | None) -> SampleSpec:
        """The sample of a name, else the first one."""
        samples = self.source.spec.samples
        return next((each for each in samples if each.name == name), samples[0])


@dataclass(frozen=True, slots=True)
class Draft:
    """Data that was typed into a template's form."""

    key: ObjectKey
    sample: str
    """The sample that the form began with."""
    data: Any
    recipient: str | None = None


class Changes:
    """A counter of changes that pages wait for."""

    def __init__(self) -> None:
        self.version = 0
        self.closed = False
        self._next = asyncio.Event()

    def bump(self) -> None:
        """Count a change and wake who waits."""
        self.version += 1
        self._wake()

    def close(self) -> None:
        """Send every page away: the studio ends."""
        self.closed = True
        self._wake()

    async def after(self, version: int, seconds: float) -> int:
        """The current version, at once when it is newer than `version`, else with the next change."""
        if self.version == version and not self.closed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._next.wait(), seconds)
        return self.version

    def _wake(self) -> None:
        self._next.set()
        self._next = asyncio.Event()


class Studio:
    """The templates of one run."""

    def __init__(self) -> None:
        self.changes = Changes()
        self.templates: Mapping[ObjectKey, ShownTemplate] = {}
        self.unread: tuple[Finding, ...] = ()
        """Findings of manifests that cannot be read as objects at all."""
        self.viewed: ObjectKey | None = None
        """The template that a page asked for last: it is validated first."""
        self._live: dict[ObjectKey, TemplateRenderer] = {}
        self._drafts: OrderedDict[str, Draft] = OrderedDict()

    def update(self, manifest_set: ManifestSet) -> None:
        """Take a reading of the folder."""
        sources = {
            ObjectKey(item.kind, item.metadata.namespace, item.metadata.name): item
            for item in reversed(manifest_set.objects)
            if isinstance(item, EmailTemplate)
        }
        found = {
            key: self._shown(key, sources[key], manifest_set)
            for key in manifest_set.validation.results
            if key in sources
        }
        if not manifest_set.complete:
            for key, before in self.templates.items():
                if key not in found:
                    findings = tuple(each for each in manifest_set.findings if each.file in before.files)
                    found[key] = replace(before, findings=findings, is_behind=bool(before.compiled))
        self.templates = dict(sorted(found.items(), key=lambda each: (each[0].namespace, each[0].name)))
        known = {finding for shown in found.values() for finding in shown.findings}
        self.unread = tuple(each for each in manifest_set.errors if each not in known)
        self._live = {key: live for key, live in self._live.items() if key in found}
        self.changes.bump()

    def hold(self, templates: Iterable[CompiledTemplate]) -> None:
        """Show good revisions of an earlier run where the newest edit does not pass."""
        for each in templates:
            key = ObjectKey("EmailTemplate", each.namespace, each.name)
            shown = self.templates.get(key)
            if shown and shown.compiled is None:
                self.templates = {**self.templates, key: replace(shown, compiled=each, is_behind=True)}
                self.changes.bump()

    def update_one(self, source: EmailTemplate, proof: TemplateValidation) -> None:
        """Show a template that became valid at once, before the whole folder is read again."""
        key = ObjectKey("EmailTemplate", source.metadata.namespace, source.metadata.name)
        before = self.templates.get(key)
        if before and proof.compiled and proof.compiled != before.compiled:
            shown = replace(
                before, source=source, compiled=proof.compiled, is_behind=False, results=proof.samples
            )
            self.templates = {**self.templates, key: shown}
            self.changes.bump()

    def render(self, key: ObjectKey, sample: SampleSpec, locale: str | None) -> RenderedLetter:
        """The letter of a sample or of typed data, as a worker renders it. Raises Rejected."""
        compiled = self.templates[key].compiled
        assert compiled is not None
        live = self._live.get(key)
        if live is None or live.compiled is not compiled:
            live = self._live[key] = TemplateRenderer(compiled, Timers(time.monotonic, time.thread_time))
        return live.render(sample_event(sample, compiled.event_types[0], locale or sample.locale))

    def keep(self, draft: Draft) -> str:
        """Keep typed data; the id under which it is found."""
        name = secrets.token_urlsafe(9)
        self._drafts[name] = draft
        while len(self._drafts) > MOST_DRAFTS:
            self._drafts.popitem(last=False)
        return name

    def draft(self, name: str | None, key: ObjectKey) -> Draft | None:
        """Typed data of a template, if it is still kept."""
        draft = self._drafts.get(name or "")
        return draft if draft and draft.key == key else None

    def _shown(self, key: ObjectKey, source: EmailTemplate, manifest_set: ManifestSet) -> ShownTemplate:
        before = self.templates.get(key)
        proof = manifest_set.validation.results[key]
        file = manifest_set.places.get(key, "")
        layout = source.spec.layout_ref
        page = ObjectKey("EmailLayout", key.namespace, layout.name) if layout else None
        keys = (key, page) if page else (key,)
        files = tuple(dict.fromkeys(name for each in keys for name in _files(each, manifest_set)))
        subjects = {f"{each.kind} {each.name}" for each in keys}
        findings = tuple(
            each for each in manifest_set.findings if each.file in files and each.subject in subjects
        )
        profile = manifest_set.validation.profiles.get(
            ObjectKey("SmtpProfile", key.namespace, source.spec.smtp_profile_ref.name)
        )
        sender = SenderMailbox(profile.spec.sender.address, profile.spec.sender.name) if profile else None
        if proof.compiled:
            # the same revision stays the same object, so that what is compiled for it is kept
            same = before and before.compiled == proof.compiled
            compiled = before.compiled if before and same else proof.compiled
            return ShownTemplate(key, file, source, compiled, findings, False, files, sender, proof.samples)
        if before and before.compiled:
            return replace(before, file=file, findings=findings, is_behind=True, files=files)
        return ShownTemplate(key, file, source, None, findings, files=files, sender=sender)


def _files(key: ObjectKey, manifest_set: ManifestSet) -> Iterator[str]:
    """The files that an object is written in, its manifest first."""
    for each in manifest_set.located:
        if ObjectKey(each.kind, each.namespace, each.name) == key:
            yield each.file
            yield from each.files.values()
