"""A folder of templates as large as designers hand them over, to measure `postroom check` with.

`python -m tests.bench.designer_folder DIR [COUNT]` writes COUNT templates (200), each a page of about 30 KB
with a `<style>` of 6 to 8 KB, loops, branches and two samples. Every second one is a page of its own with
colours and sizes of its own; the others fill a shared layout. The same arguments give the same files.
"""

# ruff: noqa: E501  lines of the pages
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

TEMPLATES = 200
SECTIONS = ("hero", "lines", "cards", "split", "steps", "quote", "totals", "help")
ACCENTS = ("#1d4ed8", "#b45309", "#047857", "#be123c", "#6d28d9", "#0f766e", "#a21caf", "#374151")
NOUNS = "delivery invoice parcel booking workshop membership voucher repair catalogue return".split()  # noqa: SIM905  a table
COPY = (
    "We have packed everything with care, and the courier has it now; you can follow each step on the way.",
    "Nothing has to be done today. If a date does not suit you, choose another one with the button below.",
    "The makers in our workshop look at each piece twice before it leaves the house, and sign the slip.",
    "Keep this letter: the number at its foot is what our people ask for when you call or write to them.",
)


def styles(number: int) -> str:
    """A style sheet of 6 to 8 KB: resets, a grid, components, utilities, small screens, dark mode."""
    accent = ACCENTS[number % len(ACCENTS)]
    pad = 8 + number % 17
    rules = [
        "body, table, td, a { -webkit-text-size-adjust: 100%; -ms-text-size-adjust: 100% }",
        "table, td { mso-table-lspace: 0pt; mso-table-rspace: 0pt }",
        "img { -ms-interpolation-mode: bicubic; border: 0; height: auto; line-height: 100%; outline: none }",
        "body { margin: 0; padding: 0; width: 100% !important; background-color: #f1f5f9 }",
        f".page {{ width: {600 + number % 41}px; margin: 0 auto; background-color: #ffffff }}",
        "h1, h2, h3 { margin: 0; font-family: Georgia, 'Times New Roman', serif; font-weight: normal }",
        f"h1 {{ font-size: 32px; line-height: 38px; color: {accent} }}",
        "h2 { font-size: 22px; line-height: 28px; color: #0f172a }",
        "h3 { font-size: 17px; line-height: 24px; color: #334155 }",
        "p { margin: 0 0 16px; font-family: Helvetica, Arial, sans-serif; font-size: 16px; line-height: 24px }",
        f"a {{ color: {accent}; text-decoration: underline }}",
        f".button a {{ display: inline-block; padding: 14px {pad + 10}px; background-color: {accent}; color: #ffffff; text-decoration: none; border-radius: 6px; font-weight: bold }}",
        ".button a:hover { background-color: #0f172a !important }",
        f".card {{ padding: {pad}px; border: 1px solid #e2e8f0; border-radius: 8px; background: #f8fafc }}",
        ".card + .card { margin-top: 12px }",
        ".card h3 { margin-bottom: 6px }",
        ".card p:last-child { margin-bottom: 0 }",
        ".lines { width: 100%; border-collapse: collapse }",
        ".lines th { text-align: left; font-size: 13px; color: #64748b; border-bottom: 2px solid #e2e8f0 }",
        f".lines td {{ padding: {pad // 2}px 0; border-bottom: 1px solid #e2e8f0; vertical-align: top }}",
        ".lines .price { text-align: right; white-space: nowrap; font-weight: bold }",
        ".totals td { padding: 4px 0; font-size: 15px } .totals .sum td { font-size: 19px; font-weight: bold }",
        ".footer p, .footer a { font-size: 12px; line-height: 18px; color: #64748b }",
        "#preview { display: none; max-height: 0; overflow: hidden; font-size: 1px; line-height: 1px }",
    ]
    for name in ("notice", "coupon", "badge", "rating", "social", "nav", "banner"):
        rules.append(
            f".{name} {{ padding: {pad}px 12px; border-left: 3px solid {accent}; font-size: 14px; line-height: 20px }}"
        )
        rules.append(
            f".{name} a, .{name} strong {{ color: {accent}; font-weight: bold; text-decoration: none }}"
        )
    for size in range(1, 9):
        rules.append(f".p-{size} {{ padding: {4 * size}px }} .pt-{size} {{ padding-top: {4 * size}px }}")
        rules.append(f".mb-{size} {{ margin-bottom: {4 * size}px }} .w-{size} {{ width: {size * 75}px }}")
    for tone, color in enumerate(("#0f172a", "#334155", "#64748b", "#94a3b8", accent), 1):
        rules.append(f".ink-{tone} {{ color: {color} }} .back-{tone} {{ background-color: {color}1a }}")
    for step in range(1, 13):
        rules += [f".col-{step} {{ display: inline-block; width: {step * 50 - 1}px; vertical-align: top }}"]
    narrow = [
        ".page { width: 100% !important }",
        *(f".col-{step} {{ display: block; width: 100% }}" for step in range(1, 13)),
        *(f".p-{size} {{ padding: {2 * size}px }}" for size in range(1, 9)),
        "h1 { font-size: 26px; line-height: 32px } .button a { display: block; text-align: center }",
        ".hide { display: none } .lines .sku { display: none }",
    ]
    dark = [
        "body, .page { background-color: #0f172a } h1, h2, h3, p, td { color: #e2e8f0 }",
        ".card { background: #1e293b; border-color: #334155 } .lines td { border-color: #334155 }",
        f"a {{ color: #93c5fd }} .button a {{ background-color: {accent}; color: #ffffff }}",
    ]
    groups = [
        "@media only screen and (max-width: 620px) {\n" + indent("\n".join(narrow), "  ") + "\n}",
        "@media (prefers-color-scheme: dark) {\n" + indent("\n".join(dark), "  ") + "\n}",
        "[data-ogsc] h1, [data-ogsc] h2, [data-ogsc] p { color: #e2e8f0 }",
        "u + .body .page { width: 100% } a[x-apple-data-detectors] { color: inherit; text-decoration: none }",
    ]
    return "\n".join((*rules, *groups))


def head(number: int) -> str:
    """Everything up to the content."""
    return f"""<!DOCTYPE html>
<html lang="en" xmlns:v="urn:schemas-microsoft-com:vml" xmlns:o="urn:schemas-microsoft-com:office:office">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{{{ letter.subject }}}}</title>
<!--[if mso]>
<noscript><xml><o:OfficeDocumentSettings><o:PixelsPerInch>96</o:PixelsPerInch></o:OfficeDocumentSettings></xml></noscript>
<![endif]-->
<style>
{styles(number)}
</style>
</head>
<body class="body">
<table role="presentation" class="page" align="center" cellpadding="0" cellspacing="0" border="0">
<tr><td class="p-6" align="left">
<a href="https://larkfield.example/"><img src="https://larkfield.example/logo.png" width="140" alt="Larkfield"></a>
</td></tr>
"""


FOOT = """<tr><td class="p-6 footer">
<p>Larkfield Supply, 4 Mill Lane, Larkfield. You get this letter because you have an account with us.</p>
<p><a href="https://larkfield.example/terms">Terms</a> &middot; <a href="https://larkfield.example/help">Help</a></p>
</td></tr>
</table>
</body>
</html>
"""


def paragraph(number: int) -> str:
    return f'<p class="ink-{number % 3 + 1}">{COPY[number % len(COPY)]}</p>'


def button(label: str, path: str) -> str:
    """A button with its form for Outlook."""
    address = f"https://larkfield.example/{path}/{{{{ order.number }}}}"
    return f"""<table role="presentation" class="button" cellpadding="0" cellspacing="0" border="0"><tr><td>
<!--[if mso]><v:roundrect href="{address}" style="height:48px;v-text-anchor:middle;width:220px" arcsize="12%" stroke="f" fillcolor="#1d4ed8"><w:anchorlock/><center style="color:#ffffff;font-family:Arial;font-size:16px">{label}</center></v:roundrect><![endif]-->
<!--[if !mso]><!--><a href="{address}">{label}</a><!--<![endif]-->
</td></tr></table>"""


def section(kind: str, number: int) -> str:
    """One row of the page."""
    noun = NOUNS[number % len(NOUNS)]
    bodies = {
        "hero": f"<h1>Your {noun}, {{{{ customer.name }}}}</h1>\n{paragraph(number)}\n{button('Follow it', noun)}",
        "lines": f"""<h2 class="mb-3">In this {noun}</h2>
<table class="lines" cellpadding="0" cellspacing="0">
<tr><th>Item</th><th class="sku">Number</th><th class="price">Price</th></tr>
{{% for line in order.lines %}}
<tr><td>{{{{ line.name }}}}{{% if line.note %}}<br><span class="ink-3" style="font-size: 13px">{{{{ line.note }}}}</span>{{% endif %}}</td><td class="sku ink-3">{{{{ line.sku }}}}</td><td class="price">{{{{ line.price|money("EUR") }}}}</td></tr>
{{% endfor %}}
</table>""",
        "cards": "\n".join(
            f'<div class="card"><h3>{NOUNS[(number + each) % len(NOUNS)].title()}</h3>{paragraph(number + each)}'
            f'<p><a href="https://larkfield.example/c/{each}">More about it</a></p></div>'
            for each in range(3)
        ),
        "split": "\n".join(
            f'<div class="col-6"><div class="p-{each + 2} back-{each + 1}"><img src="https://larkfield.example/i/{number}-{each}.png"'
            f' width="240" alt="A {noun}" style="display: block; width: 100%"><h3 class="pt-2">{noun.title()} {each}</h3>'
            f"{paragraph(number + each)}</div></div>"
            for each in range(2)
        ),
        "steps": "<ol>\n"
        + "\n".join(f'<li class="mb-2 ink-2">{COPY[(number + each) % 4]}</li>' for each in range(3))
        + "\n</ol>",
        "quote": f'<blockquote class="card ink-2" style="margin: 0; font-style: italic">{paragraph(number)}</blockquote>',
        "totals": """<table class="lines totals">
<tr><td>Goods</td><td class="price">{{ order.goods|money("EUR") }}</td></tr>
{% if order.discount %}<tr class="ink-5"><td>Discount</td><td class="price">−{{ order.discount|money("EUR") }}</td></tr>{% endif %}
<tr class="sum"><td>To pay</td><td class="price">{{ order.total|money("EUR") }}</td></tr>
</table>""",
        "help": f"<h2>A question about the {noun}?</h2>\n{paragraph(number)}\n{button('Ask us', 'help')}",
    }
    return f'<tr><td class="p-{number % 4 + 4} mb-{number % 8 + 1}">\n{bodies[kind]}\n</td></tr>\n'


def content(number: int, size: int) -> str:
    """Rows of at least `size` characters together."""
    rows: list[str] = []
    while sum(map(len, rows)) < size:
        place = len(rows)
        rows.append(section(SECTIONS[(place + number) % len(SECTIONS)], number + place))
    return "".join(rows)


LAYOUT = f"""apiVersion: postroom.dev/v1alpha1
kind: EmailLayout
metadata:
  name: page
spec:
  html: |
{indent(head(3) + "{% block content %}{% endblock %}" + chr(10) + FOOT, "    ")}
"""
PROFILE = """apiVersion: postroom.dev/v1alpha1
kind: SmtpProfile
metadata:
  name: shop
spec:
  from:
    address: post@larkfield.example
"""


def manifest(number: int) -> str:
    """The template with this number."""
    has_layout = number % 2 == 1
    rows = content(number, 22_000)
    html = f"{{% block content %}}\n{rows}{{% endblock %}}\n" if has_layout else head(number) + rows + FOOT
    layout = "  layoutRef:\n    name: page\n" if has_layout else ""
    return f"""apiVersion: postroom.dev/v1alpha1
kind: EmailTemplate
metadata:
  name: designer-{number:03}
spec:
  smtpProfileRef:
    name: shop
{layout}  eventTypes: [shop.designer-{number:03}]
  subject: "Order {{{{ order.number }}}} for {{{{ customer.name }}}}"
  preheader: "All about your {NOUNS[number % len(NOUNS)]}"
  html: |
{indent(html, "    ")}
  variables:
    type: object
    required: [customer, order]
    properties:
      customer:
        type: object
        required: [name]
        properties:
          name: {{type: string}}
      order:
        type: object
        required: [number, lines, goods, total]
        properties:
          number: {{type: string}}
          goods: {{type: number}}
          discount: {{type: number}}
          total: {{type: number}}
          lines:
            type: array
            items:
              type: object
              required: [name, sku, price]
              properties:
                name: {{type: string}}
                sku: {{type: string}}
                price: {{type: number}}
                note: {{type: string}}
  samples:
{"".join(samples())}"""


def samples() -> Iterator[str]:
    """A large order, and a small one."""
    for name, customer, count, discount in (("large", "Zoë Lindqvist", 6, "3.5"), ("small", "Ed", 1, "")):
        lines = "".join(
            f"""          - name: "Item {each}, oak & brass"
            sku: "LF-{1000 + each}"
            price: {12.5 + each}
{'            note: "made to order"' + chr(10) if each % 2 else ""}"""
            for each in range(count)
        )
        yield f"""    - name: {name}
      data:
        customer:
          name: {customer}
        order:
          number: "LF-48210"
          goods: {14.5 * count}
{"          discount: " + discount + chr(10) if discount else ""}          total: {14.5 * count}
          lines:
{lines}"""


def write_folder(folder: Path, count: int = TEMPLATES) -> None:
    """Write the profile, the layout and the templates."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "profile.yaml").write_text(PROFILE, "utf-8")
    (folder / "layout.yaml").write_text(LAYOUT, "utf-8")
    for number in range(count):
        (folder / f"designer-{number:03}.yaml").write_text(manifest(number), "utf-8")


if __name__ == "__main__":
    write_folder(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
