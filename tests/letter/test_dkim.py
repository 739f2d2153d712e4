"""DKIM signatures, compared with another implementation (dkimpy with PyNaCl) and OpenSSL's command line."""

import base64
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path

import dkim  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from postroom.letter.catalog import RenderedLetter, SenderMailbox
from postroom.letter.dkim import SigningKey, read_private_key, relaxed_body, relaxed_field, sign_letter
from postroom.letter.mime.compose import compose_letter

AT = int(datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp())
RSA = rsa.generate_private_key(65537, 2048)
ED25519 = Ed25519PrivateKey.generate()
Private = rsa.RSAPrivateKey | Ed25519PrivateKey


def pem(key: Private | ec.EllipticCurvePrivateKey, secret: bytes = b"") -> bytes:
    hidden = BestAvailableEncryption(secret) if secret else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden)


@cache
def seal(key: Private = RSA, selector: str = "s1", domain: str = "example.org") -> SigningKey:
    return SigningKey(domain, selector, read_private_key(pem(key)))


def public_record(key: Private) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return b"v=DKIM1; k=rsa; p=" + base64.b64encode(der)
    return b"v=DKIM1; k=ed25519; p=" + base64.b64encode(key.public_key().public_bytes_raw())


ZONE = {
    b"s1._domainkey.example.org.": public_record(RSA),
    b"s2._domainkey.example.org.": public_record(ED25519),
}


def verified(letter: bytes, index: int = 0) -> bool:
    """The verdict of a receiver on the signature with this number."""

    def answer(name: bytes, timeout: int = 5) -> bytes:
        return ZONE[name]

    try:
        found: bool = dkim.DKIM(letter).verify(index, dnsfunc=answer)
    except dkim.ValidationError:
        return False
    return found


def carried(content: bytes) -> bytes:
    """The letter as a receiver has it, without dot-stuffing."""
    return content.replace(b"\r\n..", b"\r\n.")


def composed(
    subject: str = "Your code", text: str = "Hello\n.dot\n..dots\n", unsubscribe: str | None = None
) -> bytes:
    rendered = RenderedLetter(
        "code", "0123456789ab", subject, f"<p>{text}</p>\n", text, None, None, (), (), "en", unsubscribe
    )
    sender, date = SenderMailbox("post@example.org", "Post"), datetime(2026, 11, 25, tzinfo=UTC)
    return compose_letter(
        rendered, to="ada@example.net", sender=sender, message_id="a@example.org", date=date
    )


@pytest.mark.parametrize(("key", "selector"), [(RSA, "s1"), (ED25519, "s2")], ids=["rsa", "ed25519"])
def test_a_receiver_verifies_the_transmitted_letter(key: Private, selector: str) -> None:
    assert verified(carried(sign_letter(composed(), [seal(key, selector)], AT)))


def test_two_signatures_of_one_letter_are_both_valid() -> None:
    letter = carried(sign_letter(composed(), [seal(RSA, "s1"), seal(ED25519, "s2")], AT))
    assert letter.count(b"DKIM-Signature:") == 2
    assert verified(letter, 0)
    assert verified(letter, 1)


def test_signing_does_not_change_the_letter() -> None:
    assert sign_letter(composed(), [seal()], AT).endswith(composed())


@pytest.mark.parametrize(
    "forge",
    [
        lambda letter: letter.replace(b"Hello", b"Hallo"),
        lambda letter: letter.replace(b"Subject: Your code", b"Subject: My code"),
        lambda letter: b"From: evil@example.com\r\n" + letter,
        lambda letter: b"Subject: another\r\n" + letter,
        lambda letter: b"Reply-To: evil@example.com\r\n" + letter,
        lambda letter: b"Cc: evil@example.com\r\n" + letter,
        lambda letter: b"Content-Type: text/plain\r\n" + letter,
        lambda letter: letter + b"more\r\n",
    ],
    ids=["body", "subject", "second From", "second Subject", "Reply-To", "Cc", "second type", "appended"],
)
def test_a_changed_letter_fails_verification(forge: Callable[[bytes], bytes]) -> None:
    assert not verified(forge(carried(sign_letter(composed(), [seal()], AT))))


def test_headers_and_folds_that_relays_add_do_not_break_the_signature() -> None:
    letter = carried(sign_letter(composed(), [seal()], AT))
    added = b"Received: from a by b;\r\n today\r\n" + letter
    folded = added.replace(b"Subject: Your code", b"Subject:   Your\r\n\t code ")
    assert verified(folded.replace(b"Hello\r\n", b"Hello  \r\n") + b"\r\n\r\n")


def test_a_one_click_unsubscription_is_signed() -> None:
    letter = sign_letter(composed(unsubscribe="https://example.org/u/1"), [seal()], AT)
    names = re.sub(rb"\s", b"", letter.split(b"h=")[1].split(b";")[0]).split(b":")
    assert {b"list-unsubscribe", b"list-unsubscribe-post"} <= set(names)
    assert names.count(b"from") == 2
    assert names.count(b"cc") == 1


def test_every_line_is_short() -> None:
    head = sign_letter(composed(), [seal(), seal(ED25519, "s2")], AT).partition(b"From:")[0]
    assert max(map(len, head.split(b"\r\n"))) <= 78


@given(st.lists(st.text("aä \t.é\u4e2d", max_size=40), max_size=6), st.text(min_size=1, max_size=80))
def test_any_text_and_subject_verify(lines: list[str], subject: str) -> None:
    shown = "".join(sign for sign in subject if sign.isprintable()) or "x"
    assert verified(carried(sign_letter(composed(shown, "\n".join(lines)), [seal(ED25519, "s2")], AT)))


@given(st.lists(st.binary(max_size=12).filter(lambda line: not set(line) & {10, 13}), max_size=6))
def test_a_body_is_canonical_as_the_other_implementation_has_it(lines: list[bytes]) -> None:
    body = b"".join(line + b"\r\n" for line in lines)
    assert relaxed_body(body) == dkim.canonicalization.Relaxed.canonicalize_body(body)


def test_the_examples_of_the_standard_are_canonical() -> None:
    """RFC 6376 §3.4.5."""
    assert relaxed_field(b"A", b" X") == b"a:X\r\n"
    assert relaxed_field(b"B ", b" Y\t\r\n\tZ  ") == b"b:Y Z\r\n"
    assert relaxed_body(b" C \r\nD \t E\r\n\r\n\r\n") == b" C\r\nD E\r\n"
    assert relaxed_body(b"\r\n\r\n") == b""


def test_the_body_hash_and_signature_are_what_openssl_makes(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    signed = read_private_key(pem(RSA)).sign(b"some bytes")
    (tmp_path / "key").write_bytes(pem(RSA))
    (tmp_path / "data").write_bytes(b"some bytes")
    command = ["openssl", "dgst", "-sha256", "-sign", "key", "data"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout == signed
    letter = sign_letter(composed(), [seal()], AT)
    body = relaxed_body(carried(composed()).partition(b"\r\n\r\n")[2])
    assert base64.b64encode(sha256(body).digest()) in letter


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (b"", "is not a private key in PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "is not a private key in PEM"),
        (pem(RSA, b"secret"), "is encrypted with a passphrase"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "is neither an RSA nor an Ed25519 key"),
    ],
    ids=["empty", "broken", "encrypted", "elliptic"],
)
def test_an_invalid_key_is_rejected_with_the_way_out(text: bytes, rule: str) -> None:
    with pytest.raises(ValueError, match=rule) as refused:
        read_private_key(text)
    assert "AAAA" not in str(refused.value)


def of_known_primes(p: int, q: int) -> rsa.RSAPrivateKey:
    """Generating a large key would take seconds."""
    public, d = rsa.RSAPublicNumbers(65537, p * q), pow(65537, -1, (p - 1) * (q - 1))
    parts = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    return rsa.RSAPrivateNumbers(p, q, d, *parts, public).private_key(unsafe_skip_rsa_key_validation=True)


@pytest.mark.searches
def test_a_key_outside_the_bounds_is_rejected_and_a_short_key_is_called_weak() -> None:
    with pytest.raises(ValueError, match="has 4484 bits; an RSA key has 1024 to 4096"):
        read_private_key(pem(of_known_primes(2**2203 - 1, 2**2281 - 1)))
    assert "1024 bits" in read_private_key(pem(rsa.generate_private_key(65537, 1024))).weakness
    assert read_private_key(pem(RSA)).weakness == ""
    assert "PRIVATE" not in repr(read_private_key(pem(RSA)))
