"""Sample letters for the tests of the sandbox."""

from email.message import EmailMessage

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d4944415478da63fcffff3f"
    "030005fe02fea72d99500000000049454e44ae426082"
)


def letter(
    subject: str = "Your receipt",
    *,
    to: str = "mira@example.com",
    html: str | None = None,
    text: str | None = "Thank you.\n",
    template: str = "receipt@a3f9c21",
) -> EmailMessage:
    """A letter as a worker sends it."""
    message = EmailMessage()
    message["From"] = "Larkfield Supply <orders@shop.example.com>"
    message["To"] = to
    message["Subject"] = subject
    message["Message-ID"] = f"<{abs(hash((subject, to)))}@shop.example.com>"
    message["X-Postroom-Template"] = template
    if text is not None:
        message.set_content(text)
    if html is not None and text is not None:
        message.add_alternative(html, subtype="html")
    elif html is not None:
        message.set_content(html, subtype="html")
    return message


def raw(message: EmailMessage) -> bytes:
    """The bytes of a letter as in DATA, without dot-stuffing."""
    return message.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def with_picture(subject: str = "With a picture") -> EmailMessage:
    """A letter whose HTML refers to an image part."""
    message = letter(subject, html='<p>Look: <img src="cid:logo@shop" alt="Logo"></p>')
    alternatives = message.get_payload()
    assert isinstance(alternatives, list)
    html = alternatives[1]
    assert isinstance(html, EmailMessage)
    html.add_related(PIXEL, "image", "png", cid="<logo@shop>")
    return message


def with_file(name: str, content: bytes = b"%PDF-1.4") -> EmailMessage:
    """A letter with an attachment of the given name."""
    message = letter("With a file", html="<p>See the file.</p>")
    message.add_attachment(content, maintype="application", subtype="pdf", filename=name)
    return message
