"""What the operator finds out beside the cluster's objects: proofs, topics, workers' own reports.

Plain values. Adapters make them, `status` reads them; nothing here decides anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from postroom.letter.bundle import CompiledTemplate
from postroom.letter.problems import Problem


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample's letter, by its sizes in UTF-8."""

    name: str
    locale: str
    html_bytes: int
    text_bytes: int


@dataclass(frozen=True, slots=True)
class Proved:
    """What came of the proof of one template or layout. With problems there is no compiled template."""

    compiled: CompiledTemplate | None = None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    samples: tuple[Sample, ...] = ()

    @property
    def under_way(self) -> bool:
        """Whether nothing has come of a template's proof yet."""
        return self.compiled is None and not self.problems


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one template of a profile stands, once its neighbours were looked at."""

    manifest: Mapping[str, Any]
    """The EmailTemplate as the cluster has it."""
    proved: Proved
    """The proof of the template alone, with its layout."""
    problems: tuple[Problem, ...] = ()
    """All that keeps the newest revision from going live: the proof's, a reference's, a neighbour's."""
    serving: CompiledTemplate | None = None
    """What workers get: the newest, or the last good one where the newest has problems."""

    @property
    def held(self) -> bool:
        """Whether an older revision serves because the newest does not pass."""
        return self.serving is not None and bool(self.problems)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether an EmailTemplate, EmailLayout or SmtpProfile is ready, and the condition's reason."""

    kind: str
    namespace: str
    name: str
    reason: str
    ready: bool


@dataclass(frozen=True, slots=True)
class WantedTopic:
    """A topic as a profile needs it. One with more partitions is as good; `config` in Kafka's own words."""

    name: str
    partitions: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the broker has it."""

    name: str
    partitions: int = 0
    """0: it is not there, or nobody could tell."""
    created: bool = False
    """Whether it was made just now."""
    differs: tuple[str, ...] = ()
    """What is otherwise than the profile asks, in words: `partitions: 6, the profile asks for 3`."""
    problem: str = ""
    """Why nothing is known, or why it could not be made."""
    reason: str = ""
    """A CamelCase word for the problem."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker says of one thing it needs; `ok` None: it does not know yet."""

    ok: bool | None
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A worker's /statusz."""

    pod: str
    mode: str = ""
    guarded: bool = False
    profile_hash: str = ""
    problems: tuple[str, ...] = ()
    answers: Mapping[str, Answer] = field(default_factory=dict)
    """By what was asked: secrets, ledger, kafka, relay, templates."""
    templates: Mapping[str, str] = field(default_factory=dict)
    """Revision by template."""
    lag: int | None = None
    """Events that wait for it; a suspended one tells all that wait, as its neighbours do. None: unknown."""
    suspended: bool = False
    reads: bool = False
    """Whether partitions are assigned to it."""
