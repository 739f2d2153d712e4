"""The text part of a page, by the rules of docs/how-to/write-a-template.md."""

import pytest
import turbohtml

from postroom.letter.html.plaintext import look_of, text_of_page

URL = "https://larkfield.example/pay"

LISTS = [
    ("<ol><li>a<li>b</ol>", "1. a\n2. b"),
    ("<ol start=9><li>a<br>x<li>b<br>y</ol>", "9. a\n   x\n10. b\n    y"),
    ("<ol reversed><li>a<li hidden>x<li>b</ol>", "2. a\n1. b"),
    ("<ol reversed start=9><li>a<li>b</ol>", "9. a\n8. b"),
    ("<ol><li value=5>a<li>b<li value=x>c</ol>", "5. a\n6. b\n7. c"),
    ("<ol type=a start=26><li>a<li>b</ol>", "z. a\naa. b"),
    ("<ol type=I start=4><li>a<li type=i>b</ol>", "IV. a\nv. b"),
    ("<ol type=i start=0><li>a</ol>", "0. a"),
    ('<ol style="list-style:lower-alpha"><li>a</ol>', "a. a"),
    ('<ul style="list-style-type:none"><li>a<li>b</ul>', "a\nb"),
    ('<ul style="list-style-type:decimal"><li>a<li>b</ul>', "1. a\n2. b"),
    ("<ul><li>a<ol><li>b<li>c</ol><li>d</ul>", "- a\n  1. b\n  2. c\n- d"),
    ("<ul><li><ul><li>a</ul></ul>", "- - a"),
    ("<ul><li><p>a</p><p>b</p></ul>", "- a\n\n  b"),
    ("<ul><li><li>b</ul>", "- b"),
    ("x<li>b", "x\n- b"),
    ("<p>x<ul><li>a</ul>y", "x\n\n- a\n\ny"),
    ("<dl><dt>T<dd>a<br>b<dt>U</dl>", "T\n  a\n  b\nU"),
]
LINES = [
    ("a<br>b", "a\nb"),
    ("a<br><br>b", "a\n\nb"),
    ("a<br><br><br>b", "a\n\nb"),
    ("<p>a<br></p><p><br>b</p>", "a\n\nb"),
    ("<div>a</div><br><div>b</div>", "a\n\nb"),
    ("<div>a</div>\n <div>b</div>", "a\nb"),
    ("<p>a</p><p>&nbsp;</p><p>b</p>", "a\n\nb"),
    ("a<br>&nbsp;<br>b", "a\n\nb"),
    ("<h1>a</h1>b<hr>c", "a\n\nb\n\n----------\n\nc"),
    ("<blockquote><p>a<p>b</blockquote>c", "> a\n>\n> b\n\nc"),
    ("<pre>\n  a\n\n\nb\t c  </pre>", "  a\n\n\nb     c"),
    ("<pre>a <b>b</b>\nc</pre>d", "a b\nc\n\nd"),
    ('<p style="white-space:pre-line">a  b \n c\n\n\nd</p>', "a b\nc\n\nd"),
    ('<p style="white-space:pre-wrap">a  b\nc</p>', "a  b\nc"),
    ('<pre style="white-space:normal">a\nb</pre>', "a b"),
    ("<p>a\r\n  b&#13;\n</p>", "a b"),
    ('<span style="display:block">a</span><a style="display:block">b</a>c', "a\nb\nc"),
    ("a<wbr>b&shy;c&#8203;d", "abcd"),
    ("m<sup>2</sup>, CO<sub>2</sub>, 1<sup>st</sup>, <q>a</q>", 'm², CO₂, 1st, "a"'),
]
TABLES = [
    ("<table><tr><td>a</td><td></td><td>b</td></tr><tr><td>c</td></tr></table>", "a  b\nc"),
    ("<table><tr><td>a é</td><td>&nbsp;</td><td>b</td></tr></table>", "a é  b"),
    ("<table><tr><td><p>a</p></td><td><p>b</p></td></tr></table>", "a\n\nb"),
    ("<table><tr><td>a<br>b</td><td>c</td></tr></table>", "a\nb  c"),
    ("<table><tr><td>a<br>b</td><td>c<br>d</td></tr></table>", "a\nb\nc\nd"),
    ("<table><tr><th>A</th><th>B</th></tr><tr><td>c<br>d</td><td>e</td></tr></table>", "A | B\nc d | e"),
    ("<table><tr><th>A<th>B<th>C<tr><td>d<td><td></table>", "A | B | C\nd"),
    ("<table><tr><th>A<th>B<th>C<tr><td>d<td><td>e</table>", "A | B | C\nd |  | e"),
    ("<table><tr><th>A<td>b<tr><th>C:<td>d</table>", "A: b\nC: d"),
    ("<table><caption>T</caption><tr><th>A<td>b<td>c</table>", "T\nA | b | c"),
    ("<table role=presentation><tr><th>A<td>b</table>", "A  b"),
    ("<table><tr><th><p>a</p></th><th><p>b</p></th></tr></table>", "a\n\nb"),
    ("<table><tr><th>A<td><table><tr><td>b</table></table>", "A\n\nb"),
    ("<table><tr><th>A<th>B<tr><td><ul><li>a<li>b</ul><td>c</table>", "A | B\n- a - b | c"),
    (f'<table><tr><th>A<th>B<tr><td><a href="{URL}">a</a><td>c</table>', f"A | B\na ({URL}) | c"),
]
LINKS = [
    (f'see <a href="{URL}">here</a>.', f"see here ({URL})."),
    (f'<p><a href="{URL}">Pay</a></p>', f"Pay:\n{URL}"),
    (f'<p><a href="{URL}">Pay now!</a></p>', f"Pay now!\n{URL}"),
    (f'<p><b>Hi</b> <b><a href="{URL}">Pay</a></b></p>', f"Hi Pay ({URL})"),
    (f'<p><a href="{URL}">Pay</a><br>or wait</p>', f"Pay ({URL})\nor wait"),
    (f'<a href="{URL}">{URL}</a>', URL),
    (f'Or: <a href="{URL}">larkfield.example/pay/</a>', f"Or: {URL}"),
    (f'<a href="{URL}">Open {URL}</a>', f"Open {URL}"),
    (f'<a href=" \n{URL}\n ">a</a> b', f"a ({URL}) b"),
    ('<a href="https://x.org/?a=1&copy=2">a</a> b', "a (https://x.org/?a=1&copy=2) b"),
    ('<a href="mailto:a@b.org">a@b.org</a>', "a@b.org"),
    ('<a href="mailto:a@b.org?subject=x">Write</a> to us', "Write (a@b.org) to us"),
    ('<a href="tel:+329123">+32 9 123</a>', "+32 9 123"),
    ('<a href="#top">Up</a> <a href="">b</a> <a>c</a>', "Up b c"),
    (f'<a href="{URL}">a</a><a href="{URL}">b</a>', f"a ({URL}) b ({URL})"),
    (f'<a href="{URL}"></a>x', "x"),
    (f'<a href="{URL}"><img alt="Shop"></a>', f"Shop:\n{URL}"),
    (f'<a href="{URL}"><img alt=""></a>', URL),
    (f'<a href="{URL}"><table><tr><td>Pay</td></tr></table></a>x', f"Pay:\n{URL}\n\nx"),
    (f'<a href="{URL}"><h2>Mug</h2><p>Blue</p></a>x', f"Mug\n\nBlue\n{URL}\n\nx"),
    (f'<ul><li><a href="{URL}">Pay</a><li>b</ul>', f"- Pay:\n  {URL}\n- b"),
    ('<table><tr><td><a href="u">A</a></td><td><a href="v">B</a></td></tr></table>', "A:\nu\nB:\nv"),
    ('<table><tr><td>Order</td><td><a href="u">A</a></td></tr></table>', "Order  A (u)"),
    ('<map><area href="u" alt="A"><area href="v" alt="B"></map>c', "A:\nu\nB:\nv\nc"),
    ('<a href="u" hidden>A</a>b', "b"),
]
HIDDEN = [
    ("<p hidden>x</p><p>a</p>", "a"),
    ("<p hidden style='display:block'>a</p>", "a"),
    ("<p style='display: NONE'>x</p>a", "a"),
    ("<p style='display:none;display:block'>a</p>", "a"),
    ("<p style='display:none;display:nonsense'>x</p>b", "b"),
    ("<p style='display:none!important;display:block'>x</p>b", "b"),
    ("<p style='/* display:none */color:red'>a</p>", "a"),
    ("<p style='background:url(x;display:none)'>a</p>", "a"),
    ("<p style='visibility:hidden'>x<b style='visibility:visible'>a</b></p>", "a"),
    ("<div style='font-size:0px'>x<img alt='Logo'><p style='font-size:16px'>a</p></div>", "[Logo]\n\na"),
    ("<div style='font-size:0'><p style='font-size:2em'>x</p><p style='font:12px/1 y'>a</p></div>", "a"),
    ("<div style='max-height:0;overflow:hidden'>x</div>a", "a"),
    ("<div style='max-height:0'>a</div>", "a"),
    ("<div style='opacity:0'>x</div>a", "a"),
    ("<div style='mso-hide:all'>a</div>", "a"),
    ("<div aria-hidden=true>a</div>", "a"),
    ("a<div style='display:none'>x</div>b", "ab"),
    ("<!--[if mso]><p>x</p><![endif]--><![if !mso]>a<![endif]><!--[if !mso]><!-->b<!--<![endif]-->", "ab"),
    ("<head><title>x</title><style>x</style></head><script>x</script><template>x</template>a", "a"),
    ("<select><option>x</select><textarea>x</textarea><svg><text>x</text></svg>a", "a"),
    ("<noscript>a</noscript><video>b</video>", "ab"),
    ('<div style="font-size:1px">Pre&zwnj;&nbsp;&zwnj;&nbsp;&#847;&#8199;&#847;&#8199;</div>a', "Pre\na"),
]
CHARACTERS = [
    ("&amp;lt; &amp;amp; &lt;b&gt;", "&lt; &amp; <b>"),
    ("3&nbsp;km &nbsp; x&nbsp;", "3\xa0km x"),
    ("می&zwnj;خواهم ‎a", "می\u200cخواهم \u200ea"),
    ("👩‍🚀 a", "👩‍🚀 a"),
    ("　二字下げ", "　二字下げ"),
    ("ภาษา&#8203;ไทย", "ภาษา\u200bไทย"),
    ("a\x01\x1ab\u2028c", "ab c"),
    ('<img alt=" A  cup "><img alt><img>', "[A cup]"),
    ('<img alt="Logo">Larkfield', "[Logo] Larkfield"),
    ('Yes<img alt="🎉">!', "Yes🎉!"),
    ('<img alt="A" style="display:block">b', "[A]\nb"),
    ("", ""),
]


@pytest.mark.parametrize(("page", "text"), LISTS + LINES + TABLES + LINKS + HIDDEN + CHARACTERS)
def test_the_text_of_a_page(page: str, text: str) -> None:
    assert text_of_page(page) == text + "\n"


def test_elements_may_nest_deeply() -> None:
    assert text_of_page("<ul><li>" * 200 + "a") == "- " * 200 + "a\n"
    assert text_of_page("<div>" * 50_000 + "a") == "a\n"


@pytest.mark.parametrize(
    ("style", "field", "value"),
    [
        ("font:0/0 a", "sized", False),
        ("font: italic 700 14px/20px Georgia", "sized", True),
        ("font-size:calc(0px + 1em)", "sized", None),
        ("font-size:50%", "sized", None),
        ("white-space:nowrap", "keeps", ""),
        ("white-space:nonsense", "keeps", None),
        ("visibility:collapse", "visible", False),
        ("list-style:none outside", "marker", ""),
        ("display:inline-block", "display", "inline-block"),
        ("width:0;overflow-x:hidden", "gone", True),
        ("height:0.0px;overflow:clip", "gone", True),
        ("width:0;overflow:visible", "gone", False),
    ],
)
def test_what_a_style_says_about_text(style: str, field: str, value: object) -> None:
    assert getattr(look_of(style), field) == value


@pytest.mark.parametrize("page", [page for page, _ in LISTS + LINES + TABLES + LINKS + HIDDEN])
def test_a_page_and_what_a_parser_makes_of_it_have_one_text(page: str) -> None:
    assert text_of_page(turbohtml.parse(page).html) == text_of_page(page)
