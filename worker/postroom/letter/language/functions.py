"""The functions of the template language, and the objects that they give.

Each is Jinja's own, but for bounds: `range` is short, and what `dict` copies is charged to the rendering's
meter.
"""

from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context
from jinja2.utils import Cycler, Joiner, Namespace

from postroom.letter.language import messages
from postroom.letter.language.bounds import bounded_range, meter_of


@pass_context
def make_dict(context: Context, *args: Any, **words: Any) -> dict[str, Any]:
    """`dict(a=1)`: a map."""
    found: dict[str, Any] = meter_of(context).build(dict(*args, **words))
    return found


FUNCTIONS = {
    "range": bounded_range,
    "dict": make_dict,
    "namespace": Namespace,
    "cycler": Cycler,
    "joiner": Joiner,
    messages.NAME: messages.translate,
}
