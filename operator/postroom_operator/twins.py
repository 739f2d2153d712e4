"""One object for templates that are equal: the compiled template of a proof, and the one read from its shard.

Each of thousands of templates would be in memory twice otherwise. Nothing is kept that nobody else keeps.
"""

from weakref import WeakValueDictionary

from postroom.letter.bundle import CompiledTemplate

_known: WeakValueDictionary[tuple[str, str, str], CompiledTemplate] = WeakValueDictionary()


def shared(template: CompiledTemplate) -> CompiledTemplate:
    """The template, or the equal one that was seen before."""
    key = (template.namespace, template.name, template.revision)
    before = _known.get(key)
    if before == template:  # a shard may have been edited by hand, and a revision says nothing of `suspend`
        return before
    _known[key] = template
    return template
