"""`spec.callbacks` of an SmtpProfile: who is told over HTTP what became of letters."""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from postroom.letter.duration import Duration, seconds
from postroom.letter.reading.spec import Broken, NameRef, ObjectName, SecretKey, Spec, repeated
from postroom.letter.telling import ENDS, Wanted

URL = re.compile(
    r"^https?://([a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?([/?][!\"$-~]*)?$"
)
NO_PORT = re.compile(
    r"^https?://(\[[^\]]*\]|[^/?:]+):(0+|25|465|587|2525"
    r"|[7-9][0-9]{4}|6[6-9][0-9]{3}|65[6-9][0-9]{2}|655[4-9][0-9]|6553[6-9])([/?]|$)"
)
"""Ports that there are not, and those of mail servers, which take what HTTP sends them for commands."""
LONGEST = 60.0


def _url(text: str) -> str:
    if not URL.fullmatch(text):
        raise ValueError(
            "is not a URL such as https://hooks.example.org/postroom, without user, password and fragment"
        )
    if NO_PORT.match(text):
        raise ValueError("has a port that is none, or a mail server's; name the web server's")
    return text


def _timeout(text: str) -> str:
    if seconds(text) > LONGEST:
        raise ValueError("is longer than a minute (60s), the longest wait for an answer")
    return text


class WebhookSecretRef(Spec):
    """A Secret in the same namespace and the key that holds what callbacks are signed with."""

    name: ObjectName
    key: SecretKey = "webhook.secret"


class Callback(Spec):
    """A URL that is told what became of letters, as Standard Webhooks."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    url: Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(_url)]
    secret_ref: WebhookSecretRef
    events: Wanted = Field(default_factory=lambda: list(ENDS))
    timeout: Annotated[Duration, AfterValidator(_timeout)] = "10s"
    ca_ref: NameRef | None = None

    @property
    def plain(self) -> bool:
        """Whether it is called without TLS."""
        return self.url.startswith("http:")

    @property
    def host(self) -> str:
        """The host that is called."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port that is called."""
        return urlsplit(self.url).port or (80 if self.plain else 443)


def broken_callbacks(callbacks: Sequence[Callback]) -> Iterator[Broken]:
    """What is wrong with callbacks beside each other."""
    for index, _ in repeated(one.name for one in callbacks):
        yield f"callbacks[{index}]", "has the name of an earlier one; each may be there once"
