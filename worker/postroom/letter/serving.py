"""Which revision of each template serves: the newest that passed, else the last good one.

One rule for both halves: the operator asks it about the templates of a cluster, `postroom up` about those of
a folder. A bad edit never takes down what was good; but of two templates with one event type only one can
serve it, and the first that asked has it.
"""

from collections.abc import Iterator

from postroom.letter.compiled import CompiledTemplate


class Serving:
    """The templates of one profile, asked about one after the other."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}

    def revision(
        self, name: str, fresh: CompiledTemplate | None, before: CompiledTemplate | None
    ) -> CompiledTemplate | None:
        """What serves of this template: `fresh` where there is one, else `before`; None where another has one
        of its event types.
        """
        chosen = fresh or before
        if chosen is None or any(True for _ in self.taken(name, chosen)):
            return None
        self._owners.update(dict.fromkeys(chosen.event_types, name))
        return chosen

    def taken(self, name: str, compiled: CompiledTemplate) -> Iterator[tuple[int, str, str]]:
        """The event types that another template has: place in the list, name, and who has it."""
        for index, event_type in enumerate(compiled.event_types):
            owner = self._owners.get(event_type, name)
            if owner != name:
                yield index, event_type, owner
