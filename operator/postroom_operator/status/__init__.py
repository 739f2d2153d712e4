"""What an object's status says: what was found out in, conditions and figures out. Pure; time is an argument.

A status is a function of what was found and of the status before it: a condition keeps the time of its last
flip. Where nothing has changed the new status equals the old one, and nothing is written.
"""

from postroom_operator.status.announce import Announcement, Turn, event, turn
from postroom_operator.status.layout import layout_status
from postroom_operator.status.profile import ProfileFacts, profile_status
from postroom_operator.status.ready import readiness
from postroom_operator.status.template import is_rolling_out, template_status

__all__ = [
    "Announcement",
    "ProfileFacts",
    "Turn",
    "event",
    "is_rolling_out",
    "layout_status",
    "profile_status",
    "readiness",
    "template_status",
    "turn",
]
