"""Values that every mail client understands (CSS 2.1, and the plainest of what came later).

A declaration whose value a client does not understand does not count there, and an earlier one of the same
property wins: `background: #fff; background: linear-gradient(…)`. So a declaration makes an earlier one
needless only if its value is certain to be understood. That is a question of the property, too: `color: 4px`
is a mistake, which no browser applies.

A property and a value in, yes or no out. Where it is unsure the answer is no, which costs some bytes.
"""

import re
from functools import lru_cache

NAMED_COLORS = frozenset(
    """
    aliceblue antiquewhite aqua aquamarine azure beige bisque black blanchedalmond blue blueviolet brown
    burlywood cadetblue chartreuse chocolate coral cornflowerblue cornsilk crimson cyan darkblue
    darkcyan darkgoldenrod darkgray darkgreen darkgrey darkkhaki darkmagenta darkolivegreen darkorange
    darkorchid darkred darksalmon darkseagreen darkslateblue darkslategray darkslategrey darkturquoise
    darkviolet deeppink deepskyblue dimgray dimgrey dodgerblue firebrick floralwhite forestgreen fuchsia
    gainsboro ghostwhite gold goldenrod gray green greenyellow grey honeydew hotpink indianred indigo
    ivory khaki lavender lavenderblush lawngreen lemonchiffon lightblue lightcoral lightcyan
    lightgoldenrodyellow lightgray lightgreen lightgrey lightpink lightsalmon lightseagreen lightskyblue
    lightslategray lightslategrey lightsteelblue lightyellow lime limegreen linen magenta maroon
    mediumaquamarine mediumblue mediumorchid mediumpurple mediumseagreen mediumslateblue
    mediumspringgreen mediumturquoise mediumvioletred midnightblue mintcream mistyrose moccasin
    navajowhite navy oldlace olive olivedrab orange orangered orchid palegoldenrod palegreen
    paleturquoise palevioletred papayawhip peachpuff peru pink plum powderblue purple red rosybrown
    royalblue saddlebrown salmon sandybrown seagreen seashell sienna silver skyblue slateblue slategray
    slategrey snow springgreen steelblue tan teal thistle tomato turquoise violet wheat white whitesmoke
    yellow yellowgreen transparent
    """.split()  # noqa: SIM905  a table
)
COLOR = rf"(?:\#(?:[0-9a-f]{{6}}|[0-9a-f]{{3}})|(?:{'|'.join(sorted(NAMED_COLORS))}))"
NUMBER = r"(?:\d+(?:\.\d+)?|\.\d+)"
LENGTH = rf"(?:0|{NUMBER}(?:px|em|pt|ex|cm|mm|in|pc))"
SIZE = rf"(?:{LENGTH}|{NUMBER}%)"
OFFSET = rf"(?:[-+]?{SIZE})"
WIDTH = rf"(?:{LENGTH}|thin|medium|thick)"
STYLE = r"(?:none|hidden|dotted|dashed|solid|double|groove|ridge|inset|outset)"
FAMILY = r"""(?:"[^"\\]*"|'[^'\\]*'|-?[a-z_][\w-]*(?:\s+-?[a-z_][\w-]*)*)"""
TABLE = r"table(?:-(?:row|cell|column|row-group|header-group|footer-group|column-group|caption))?"


def _up_to_four(part: str) -> str:
    return rf"{part}(?:\s+{part}){{0,3}}"


_SIDES = "(?:top|right|bottom|left)"
_GRAMMAR = {
    rf"color|background-color|border-{_SIDES}-color|outline-color": COLOR,
    "background": rf"(?:{COLOR}|none)",
    "background-image|list-style-image": "none",
    "background-repeat": "repeat|repeat-x|repeat-y|no-repeat",
    "margin": _up_to_four(rf"(?:{OFFSET}|auto)"),
    rf"margin-{_SIDES}|top|right|bottom|left": rf"(?:{OFFSET}|auto)",
    "padding": _up_to_four(SIZE),
    rf"padding-{_SIDES}": SIZE,
    "width|height|min-width|min-height": rf"(?:{SIZE}|auto)",
    "max-width|max-height": rf"(?:{SIZE}|none)",
    "border-width": _up_to_four(WIDTH),
    "border-style": _up_to_four(STYLE),
    "border-color": _up_to_four(COLOR),
    rf"border-{_SIDES}-width": WIDTH,
    rf"border-{_SIDES}-style": STYLE,
    rf"border|border-{_SIDES}|outline": rf"(?:{WIDTH}(?:\s+{STYLE}(?:\s+{COLOR})?)?|{STYLE}(?:\s+{COLOR})?)",
    "border-radius": _up_to_four(SIZE),
    "border-collapse": "collapse|separate",
    "border-spacing": rf"{LENGTH}(?:\s+{LENGTH})?",
    "box-sizing": "content-box|border-box",
    "clear": "none|left|right|both",
    "cursor": "auto|default|pointer|text",
    "direction": "ltr|rtl",
    "display": rf"none|block|inline|inline-block|list-item|inline-table|{TABLE}",
    "float": "none|left|right",
    "font-family": rf"{FAMILY}(?:\s*,\s*{FAMILY})*",
    "font-size": rf"(?:{SIZE}|(?:x?x-)?small|(?:x?x-)?large|medium|smaller|larger)",
    "font-style": "normal|italic|oblique",
    "font-weight": "normal|bold|bolder|lighter|[1-9]00",
    "letter-spacing|word-spacing": rf"(?:[-+]?{LENGTH}|normal)",
    "line-height": rf"(?:{SIZE}|{NUMBER}|normal)",
    "list-style-position": "inside|outside",
    "list-style|list-style-type": "none|disc|circle|square|decimal",
    "opacity": NUMBER,
    "overflow|overflow-x|overflow-y": "visible|hidden|scroll|auto",
    "position": "static|relative|absolute|fixed",
    "table-layout": "auto|fixed",
    "text-align": "left|right|center|justify",
    "text-decoration": "none|underline|overline|line-through",
    "text-indent": OFFSET,
    "text-transform": "none|capitalize|uppercase|lowercase",
    "vertical-align": rf"(?:{OFFSET}|baseline|sub|super|top|text-top|middle|bottom|text-bottom)",
    "visibility": "visible|hidden",
    "white-space": "normal|nowrap|pre|pre-wrap|pre-line",
    "word-break": "normal|break-all",
    "word-wrap|overflow-wrap": "normal|break-word",
    "z-index": r"[-+]?\d+|auto",
    "(?:-webkit-|-ms-)?text-size-adjust": rf"none|auto|{NUMBER}%",
    "mso-[a-z-]+": r"[\w.%-]+",
}
_CERTAIN = [(re.compile(names), re.compile(value, re.IGNORECASE)) for names, value in _GRAMMAR.items()]


@lru_cache(maxsize=4096)
def is_certain(name: str, value: str) -> bool:
    """Whether every mail client that knows the property understands the value."""
    return any(names.fullmatch(name) and values.fullmatch(value) for names, values in _CERTAIN)
