"""Bundles at work: the texts of a profile's shards in, its live templates by event type out.

A text that is not a bundle is refused whole; the reader keeps what it had.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from postroom.letter.bundle import unpack
from postroom.letter.compiled import CompiledTemplate
from postroom.letter.language.bounds import Clocks
from postroom.letter.live import Live
from postroom.letter.render import Catalog


@dataclass(frozen=True, slots=True)
class Loaded:
    """The live templates of one profile, by the text of the shard that they came in."""

    shards: Mapping[str, tuple[Live, ...]] = field(default_factory=dict)

    @property
    def catalog(self) -> Catalog:
        """By event type; the first to claim one has it."""
        live: dict[str, Live] = {}
        for templates in self.shards.values():
            for template in templates:
                for event_type in template.compiled.event_types:
                    live.setdefault(event_type, template)
        return Catalog(live)

    def read(self, texts: Iterable[str], clocks: Clocks | None = None) -> "Loaded":
        """These shards, with the templates that are in them as before kept, and so kept compiled.

        Raises Rejected.
        """
        known = {template.name: template for shard in self.shards.values() for template in shard}

        def live(compiled: CompiledTemplate) -> Live:
            before = known.get(compiled.name)
            # a revision says nothing of `suspend`
            return before if before and before.compiled == compiled else Live(compiled, clocks)

        shards: dict[str, tuple[Live, ...]] = {}
        for text in texts:
            shards[text] = self.shards.get(text) or tuple(map(live, unpack(text)))
        return Loaded(shards)


def load(texts: Iterable[str], clocks: Clocks | None = None) -> Catalog:
    """The live templates of one profile. Raises Rejected; the first to claim an event type has it."""
    return Loaded().read(texts, clocks).catalog
