"""The proof of a whole set of manifests: each template with its layout, and what only the set can tell.

Objects in, oldest first (the first to claim an event type keeps it); out, a `Verdict` with one proof for
each template and layout, and the compiled templates of each profile. A manifest that is wrong takes
nothing else down with it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from postroom.letter.compiled import CompiledTemplate
from postroom.letter.language.bounds import Clocks
from postroom.letter.problems import Code, Problem, Severity
from postroom.letter.profile import SmtpProfile, allows_sender, topic_of
from postroom.letter.proof import Proof, css_problems, mistakes_without_layout, prove
from postroom.letter.proving.draft import layout_problems
from postroom.letter.references import Key, claimed, foreign_sender, layout_field, not_found, topic_taken
from postroom.letter.template import EmailLayout, EmailTemplate
from postroom.letter.topics import clash

Object = EmailTemplate | EmailLayout | SmtpProfile
Pair = tuple[EmailTemplate, EmailLayout | None]
"""A template and its layout."""
ProveEach = Callable[[Iterable[Pair]], Iterable[Proof]]
"""Proves pairs, in order; so that a command can do it in several processes."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What references may lead to: the sound objects, and the names of those that are there but faulty."""

    objects: Mapping[Key, Object]
    faulty: frozenset[Key]
    elsewhere: bool
    """Whether what is missing is elsewhere."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a set."""

    proofs: Mapping[Key, Proof] = field(default_factory=dict)
    profiles: Mapping[Key, SmtpProfile] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing at all is wrong."""
        return not any(proof.problems for proof in self.proofs.values())

    def compiled(self, namespace: str, profile: str) -> list[CompiledTemplate]:
        """A profile's templates, for its bundle."""
        found = (proof.compiled for proof in self.proofs.values())
        return [each for each in found if each and (each.namespace, each.profile) == (namespace, profile)]


class ProofCache:
    """Proofs of earlier runs: a template is proved again only when it or its layout is another object.

    Objects are compared by identity, so that a reader has to hand in the same object for what has not
    changed. Equality would not do: to Python `1`, `1.0` and `true` in a sample are equal.
    """

    def __init__(self, clocks: Clocks | None = None) -> None:
        self._clocks = clocks
        self._kept: dict[Key, tuple[EmailTemplate, EmailLayout | None, Proof]] = {}

    def prove(self, template: EmailTemplate, layout: EmailLayout | None) -> Proof:
        """The proof of a template with its layout, kept or made."""
        key = key_of(template)
        kept = self._kept.get(key)
        if kept and kept[0] is template and kept[1] is layout:
            return kept[2]
        proof = prove(template, layout, self._clocks)
        self._kept[key] = (template, layout, proof)
        return proof

    def prove_each(self, pairs: Iterable[Pair]) -> Iterator[Proof]:
        """The proofs of a set, in order; what is not in it is forgotten."""
        asked = list(pairs)
        yield from (self.prove(template, layout) for template, layout in asked)
        self._kept = {key_of(template): self._kept[key_of(template)] for template, _ in asked}


def key_of(item: Object) -> Key:
    """Where an object stands in a set."""
    return Key(item.kind, item.metadata.namespace, item.metadata.name)


def prove_all(
    objects: Iterable[Object],
    clocks: Clocks | None = None,
    faulty: Iterable[Key] = (),
    *,
    elsewhere: bool = False,
    prove_each: ProveEach | None = None,
) -> Verdict:
    """Prove every template and layout of a set.

    `faulty` names what is in the set and could not be read. A template that refers to it is not live, and
    nothing more is said of the reference: the mistake is said where it was made. With `elsewhere` the set is
    not all there is: a profile or layout that is missing is a warning. Without its layout no template passes.
    """
    known, proofs = _once_each(objects)
    claims: dict[tuple[str, str, str], str] = {}
    second = {key: Proof(key.name, problems=(problem,)) for key, problem in _second_on_a_topic(known)}
    proofs |= second
    known = {key: item for key, item in known.items() if key not in second}
    around = _Known(known, frozenset((*faulty, *second)), elsewhere)
    templates = {key: item for key, item in known.items() if isinstance(item, EmailTemplate)}
    pairs = {key: (item, _layout_of(item, around)) for key, item in templates.items()}
    whole = {key: pair for key, pair in pairs.items() if pair[1] or not pair[0].spec.layout_ref}
    each = prove_each or (lambda asked: (prove(*pair, clocks) for pair in asked))
    rendered = dict(zip(whole, each(whole.values()), strict=True))
    for key, item in known.items():
        if isinstance(item, EmailTemplate):
            proof = _prove_one(item, around, rendered.get(key))
            conflicts = tuple(_conflicts(item, claims)) if proof.passed else ()
            compiled = None if conflicts else proof.compiled
            found = replace(proof, compiled=compiled, problems=(*proof.problems, *conflicts))
        elif isinstance(item, EmailLayout):
            found = prove_layout(item)
        else:
            continue
        earlier = proofs.get(key)
        proofs[key] = replace(found, problems=found.problems + earlier.problems) if earlier else found
    profiles = {key: item for key, item in known.items() if isinstance(item, SmtpProfile)}
    return Verdict(proofs, profiles)


def _once_each(objects: Iterable[Object]) -> tuple[dict[Key, Object], dict[Key, Proof]]:
    """The first of each name, and what is to be said of a second."""
    known: dict[Key, Object] = {}
    proofs: dict[Key, Proof] = {}
    for item in objects:
        if (key := key_of(item)) in known:
            message = f"{key.kind} {key.name} is there twice; the first one counts"
            proofs[key] = Proof(
                key.name, problems=(Problem(Code.MANIFEST_INVALID, "metadata.name", message),)
            )
        else:
            known[key] = item
    return known, proofs


def _layout_of(template: EmailTemplate, known: _Known) -> EmailLayout | None:
    name = template.spec.layout_ref and template.spec.layout_ref.name
    found = known.objects.get(Key("EmailLayout", template.metadata.namespace, name)) if name else None
    return found if isinstance(found, EmailLayout) else None


def _prove_one(template: EmailTemplate, known: _Known, rendered: Proof | None) -> Proof:
    """The proof with what only the set can tell; `rendered` is None where the layout is missing."""
    spec, namespace = template.spec, template.metadata.namespace
    profile = Key("SmtpProfile", namespace, spec.smtp_profile_ref.name)
    page = Key("EmailLayout", namespace, spec.layout_ref.name) if spec.layout_ref else None
    missing = [*_check_layout(page, known), *_check_profile(profile, known)]
    proof = rendered or Proof(template.metadata.name, problems=mistakes_without_layout(template))
    if known.elsewhere:
        elsewhere = (replace(problem, severity=Severity.WARNING) for problem in missing)
        proof = replace(proof, warnings=(*elsewhere, *proof.warnings))
    problems = [*([] if known.elsewhere else missing), *_check_sender(template, profile, known)]
    if not problems and (profile in known.objects or profile not in known.faulty):
        return proof
    return replace(proof, compiled=None, problems=(*problems, *proof.problems))


def _check_layout(page: Key | None, known: _Known) -> Iterator[Problem]:
    if page and page not in known.objects:
        yield from _missing(Code.LAYOUT_NOT_FOUND, page, "spec.layoutRef.name", known)


def _check_profile(profile: Key, known: _Known) -> Iterator[Problem]:
    if profile not in known.objects:
        yield from _missing(Code.PROFILE_NOT_FOUND, profile, "spec.smtpProfileRef.name", known)


def _check_sender(template: EmailTemplate, profile: Key, known: _Known) -> Iterator[Problem]:
    found, sender = known.objects.get(profile), template.spec.sender
    if isinstance(found, SmtpProfile) and sender and not allows_sender(found, sender.address):
        yield foreign_sender(profile.name)


def _missing(code: Code, wanted: Key, place: str, known: _Known) -> Iterator[Problem]:
    """That a reference leads nowhere, unless it leads to what is faulty itself."""
    if wanted not in known.faulty:
        yield not_found(code, wanted, place, (*known.objects, *known.faulty))


def _conflicts(template: EmailTemplate, claims: dict[tuple[str, str, str], str]) -> Iterator[Problem]:
    profile, namespace = template.spec.smtp_profile_ref.name, template.metadata.namespace
    for index, event_type in enumerate(template.spec.event_types):
        owner = claims.setdefault((namespace, profile, event_type), template.metadata.name)
        if owner != template.metadata.name:
            yield claimed(index, event_type, owner, profile)


def _second_on_a_topic(known: Mapping[Key, Object]) -> Iterator[tuple[Key, Problem]]:
    """The profiles whose topic an earlier one has."""
    topics: dict[Key, str] = {}
    for key, item in known.items():
        if isinstance(item, SmtpProfile):
            topic = topic_of(item)
            if by := next((each for each, its in topics.items() if clash(topic, its)), None):
                yield key, topic_taken(topic, by.name, topics[by])
            else:
                topics[key] = topic


def prove_layout(layout: EmailLayout) -> Proof:
    """What can be told of a layout without a template: it compiles, and its CSS and partials do."""
    name = layout.metadata.name
    problems = list(css_problems(layout.spec.css or "", "spec.css"))
    problems += layout_problems(layout)
    own = layout_field(name)
    placed = [replace(problem, field=problem.field.replace(own, "spec", 1)) for problem in problems]
    return Proof(
        name,
        problems=tuple(each for each in placed if each.severity is Severity.ERROR),
        warnings=tuple(each for each in placed if each.severity is not Severity.ERROR),
    )
