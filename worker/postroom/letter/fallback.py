"""Which profile another may fall back to: (profile, the one that its fallbackRef names) → a problem, or none.

Both halves ask: the operator before it mounts anything, the worker before it opens a relay. A fallback's own
`fallbackRef` is never followed, so that there are no chains and no loops.
"""

from postroom.letter.problems import Code, Problem
from postroom.letter.profile import SmtpProfile

FIELD = "spec.fallbackRef.name"


def fallback_problem(profile: SmtpProfile, other: SmtpProfile | None) -> Problem | None:
    """Why the fallback cannot be used; None where it can, or where the profile asks for none."""
    ref = profile.spec.fallback_ref
    if ref is None:
        return None
    home = profile.metadata.namespace
    if profile.spec.mode != "SMTP":
        said = (
            f"only a profile of mode SMTP falls back, and this one is of mode {profile.spec.mode}: its "
            "letters never leave through another's relay. Set spec.mode to SMTP or remove spec.fallbackRef"
        )
        return Problem(Code.FALLBACK_UNUSABLE, FIELD, said)
    if other is None or (other.metadata.namespace, other.metadata.name) != (home, ref.name):
        said = f"SmtpProfile {home}/{ref.name} is not there, or is not sound. Apply it, or remove the field"
        return Problem(Code.FALLBACK_MISSING, FIELD, said)
    if other.spec.mode != "SMTP":
        said = (
            f"SmtpProfile {home}/{ref.name} is of mode {other.spec.mode}: letters sent through it would "
            "reach nobody. Name a profile of mode SMTP"
        )
        return Problem(Code.FALLBACK_UNUSABLE, FIELD, said)
    return None
