"""Which profile owns an event type: the live templates of every profile, as the gateway sees them.

Input: the rooms (one per profile). Output: the one room an event goes to. Failure: `Rejected` with the
rule, and the nearest event types when nobody owns the one that was named. Pure.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from postroom.letter.catalog import RenderableTemplate, TemplateCatalog
from postroom.letter.problems import Code, Problem, Rejected


@dataclass(frozen=True, slots=True)
class Room:
    """A profile's place: its name, its topic, its live templates."""

    profile: str
    topic: str
    catalog: TemplateCatalog


@dataclass(frozen=True, slots=True)
class Address:
    """Where an event of a type goes and the template that will make its letter."""

    room: Room
    template: RenderableTemplate


class Directory:
    """All rooms, by event type."""

    def __init__(self, rooms: Iterable[Room] = ()) -> None:
        self._rooms = tuple(rooms)

    @property
    def rooms(self) -> tuple[Room, ...]:
        """Every profile that is served."""
        return self._rooms

    def event_types(self) -> list[str]:
        """Every event type that has a live template, sorted."""
        return sorted({name for room in self._rooms for name in room.catalog.templates})

    def find(self, event_type: str, profile: str | None = None) -> Address:
        """The owner of an event type, narrowed to one profile if it is given; raises Rejected."""
        rooms = [room for room in self._rooms if profile in (None, room.profile)]
        if not self._rooms:
            message = (
                f"no template is live for {event_type}: there is no profile yet. Add an SmtpProfile and an "
                "EmailTemplate to the manifests"
            )
            raise Rejected(Problem(Code.TEMPLATE_MISSING, "event_type", message))
        if not rooms:
            raise _missing("profile", f"no profile is called {profile}", _names(self._rooms))
        owners = [
            Address(room, template)
            for room in rooms
            if (template := room.catalog.find(event_type)) is not None
        ]
        if not owners:
            raise _missing("event_type", f"no live template is for {event_type}", self._near(event_type))
        if len(owners) > 1:
            served = _names(owner.room for owner in owners)
            raise _missing("event_type", f"several profiles serve {event_type}; add ?profile=", served)
        if owners[0].template.suspended:
            problem = f"template {owners[0].template.name} is suspended (spec.suspend); no letters leave"
            raise Rejected(Problem(Code.TEMPLATE_SUSPENDED, "event_type", problem))
        return owners[0]

    def _near(self, event_type: str) -> str:
        known = self.event_types()
        near = difflib.get_close_matches(event_type, known, n=3, cutoff=0.6)
        return ", ".join(near or known[:5])


def _names(rooms: Iterable[Room]) -> str:
    return ", ".join(sorted(room.profile for room in rooms))


def _missing(field: str, what: str, choices: str) -> Rejected:
    message = f"{what} (there are: {choices})" if choices else f"{what} (there are none yet)"
    return Rejected(Problem(Code.TEMPLATE_MISSING, field, message))
