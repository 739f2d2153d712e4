"""`spec.dkim` of an SmtpProfile: whose signatures its letters carry, and which key makes them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import Field

from postroom.letter.address import DomainText
from postroom.letter.reading.spec import Broken, ObjectName, SecretKey, Spec, repeated


class SigningKeyRef(Spec):
    """A Secret in the same namespace and the key that holds a private key in PEM."""

    name: ObjectName
    key: SecretKey = "dkim.key"


class Dkim(Spec):
    """One DKIM signature that letters carry, where the relay does not sign."""

    domain: DomainText
    selector: Annotated[
        str, Field(min_length=1, max_length=63, pattern=r"^[a-zA-Z0-9]([-._a-zA-Z0-9]*[a-zA-Z0-9])?$")
    ]
    secret_ref: SigningKeyRef


def covers(one: Dkim, domain: str) -> bool:
    """Whether letters from this domain carry the signature: it is the signature's own or below it."""
    return domain == one.domain or domain.endswith(f".{one.domain}")


def broken_signatures(signatures: Sequence[Dkim], senders: Mapping[str, str]) -> Iterator[Broken]:
    """What is wrong with signatures for these sender domains, which are given by field."""
    for index, _ in repeated(f"{one.selector} of {one.domain}" for one in signatures):
        yield f"dkim[{index}]", "has domain and selector of an earlier one; each pair may be there once"
    for field, domain in senders.items():
        if signatures and not any(covers(one, domain) for one in signatures):
            rule = f"{domain} has no signature of its own or of a domain above it in dkim"
            yield field, f"{rule}, so that its letters would go unsigned; add one"
