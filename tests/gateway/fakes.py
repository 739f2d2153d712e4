"""Fakes for the gateway's tests: a template that requires a name, and a publisher that keeps a list."""

from dataclasses import dataclass
from datetime import datetime

from postroom.gateway.publisher import PublishFailed
from postroom.letter.catalog import RenderedLetter, TemplateCatalog
from postroom.letter.event import Event
from postroom.letter.problems import Code, Problem, Rejected


@dataclass(frozen=True, slots=True)
class FakeTemplate:
    """Requires `data.name`."""

    suspended: bool = False
    category: str = "Transactional"
    name: str = "welcome"
    revision: str = "0123456789ab"

    def expires(self, event: Event) -> datetime | None:
        return None

    def render(self, event: Event) -> RenderedLetter:
        if "name" not in event.data:
            raise Rejected(Problem(Code.VARIABLE_MISSING, "data.name", "is required"))
        return RenderedLetter("welcome", self.revision, "Hi", "<p>Hi</p>", "Hi", None, None, (), (), "en")


def catalog(*event_types: str, suspended: bool = False) -> TemplateCatalog:
    """A catalog whose every event type is served by a FakeTemplate."""
    return TemplateCatalog(dict.fromkeys(event_types, FakeTemplate(suspended)))


class FakePublisher:
    """Keeps what it publishes; raises `failure` if one is set."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes, bytes]] = []
        self.failure: PublishFailed | None = None

    async def publish(self, topic: str, key: bytes, value: bytes) -> None:
        if self.failure:
            raise self.failure
        self.published.append((topic, key, value))

    async def is_reachable(self) -> bool:
        return self.failure is None
