"""Template source, reduced to what the text part is read from.

`text_of_source(source)` takes template source with its CSS inlined, and gives a template that is rendered
with escaping, as the html is: `text_of_page` of its output equals `text_of_page` of the rendered html, for
all data. What `text_of_page` does not read is left out: style sheets, comments, elements such as `<span>`,
attributes, contents of elements that no event shows. Everything else stays as it is written. It raises
CannotInline with the reason where an event could cut the source into other tags than those seen here;
then the text is derived from each rendered page.
"""

import re
from html import escape, unescape

from turbohtml import TokenType

from postroom.letter.html.plaintext import LINES, PARAGRAPHS, SPACES
from postroom.letter.html.textstyle import BLOCKS, MARKERS, look_of
from postroom.letter.html.tokens import PLACE, CannotInline, Token, placeholder, tokenize
from postroom.letter.language.pieces import Piece, split

INLINE = frozenset(
    "abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark s samp small span strike"  # noqa: SIM905  a table
    " strong time tt u var".split()
)
"""Elements that say nothing about the text, unless by a `style` or `hidden`."""
RAW = frozenset("iframe noembed noframes script style textarea title".split())  # noqa: SIM905  as the others
"""Elements whose contents a tokenizer reads as one text, and a mail client shows nowhere."""
FOREIGN = ("math", "svg")
VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())  # noqa: SIM905  as the others
MAX_DEPTH = 200
"""Elements open at once; the parser nests no more than 512."""
BRANCH = "%"
PREFORMATTED = ("listing", "noscript", "pre")
"""A tokenizer reads `noscript` as one text, which may hold any of the others."""
UNREADABLE = ("plaintext", "xmp")
"""What they hold is shown as it is written, references too."""
KEPT_ATTRIBUTES = {
    "a": ("href",),
    "area": ("alt", "href"),
    "dialog": ("open",),
    "img": ("alt",),
    "li": ("type", "value"),
    "menu": ("type",),
    "ol": ("reversed", "start", "type"),
    "table": ("role",),
    "ul": ("type",),
}
"""What is read of an element beside `style` and `hidden`."""
ATTRIBUTE = re.compile(
    r"[ \t\n\r\f/]*(?P<whole>(?P<name>=[^ \t\n\r\f/>=]*|[^ \t\n\r\f/>=]+)"
    r"(?:[ \t\n\r\f]*=[ \t\n\r\f]*"
    r"""(?:(?P<quote>["'])(?P<value>.*?)(?P=quote)|(?P<bare>[^ \t\n\r\f>"'][^ \t\n\r\f>]*))?)?)""",
    re.DOTALL,
)
TAG_NAME = re.compile("<[A-Za-z][A-Za-z0-9:-]*(?=\x1a(?P<number>[0-9]+)\x1b)")
NAME_ENDS = re.compile("(?:\x1a[0-9]+\x1b)+[ \t\n\f/>]")
BEFORE_CONSTRUCT = re.compile("<[/!?]?\x1a|&[#0-9A-Za-z]*\x1a")
"""What a value could make a tag or another character of."""
LOOSE_COMMENT = re.compile("[-!<]\x1a|\x1b[->!]")
OPEN_REFERENCE = re.compile("&[#0-9A-Za-z]*\\Z")
CALL = re.compile(r"(\|\s*|\bis\s+(?:not\s+)?|\.)?\b([A-Za-z_]\w*)\s*\(")
NOT_CALLED = frozenset("and elif else if in is not or range".split())  # noqa: SIM905  as the others
PURE_BLOCKS = frozenset("elif else endfor endif for if".split())  # noqa: SIM905  as the others


def text_of_source(source: str) -> str:
    """A template, to be rendered with escaping: `text_of_page` of its output is the text part.

    `source` is template source with its CSS inlined. Raises CannotInline with the reason, or Rejected
    (template_syntax).
    """
    return _Reduction(source).write()


class _Reduction:
    """Template source as tokens of HTML, with a placeholder for each Jinja construct."""

    def __init__(self, source: str) -> None:
        if "\x1a" in source or "\x1b" in source:
            raise CannotInline("the source holds control characters")
        self._constructs: list[Piece] = []
        self._written: list[str] = []
        protected = "".join(map(self._protect, split(source, "spec.html")))
        protected = protected.replace("\r\n", "\n").replace("\r", "\n")
        self._groups = self._find_groups()
        protected = TAG_NAME.sub(lambda found: self._part_name(found, protected), protected)
        self._tokens = [*tokenize(protected)]
        if shown := next((token.name for token in self._tokens if token.name in UNREADABLE), ""):
            raise CannotInline(f"<{shown}> shows markup as it is written")
        if "".join(token.source for token in self._tokens) != protected:
            raise CannotInline("the markup is not closed at its end")
        tags = [token for token in self._tokens if token.type is TokenType.START_TAG]
        looks = [look_of(token.style) for token in self._tokens]
        styled_by_data = any("style" in token.source.lower() and PLACE.search(token.source) for token in tags)
        self._keeps_spaces = styled_by_data or any(
            look.keeps or token.name in PREFORMATTED for look, token in zip(looks, self._tokens, strict=True)
        )
        """Whether spaces and line ends count anywhere."""
        self._sizes = styled_by_data or any(look.sized is False for look in looks)
        """Whether letters may have no size anywhere."""
        self._check()

    # --- reading ---

    def _protect(self, piece: Piece) -> str:
        if piece.kind == "data":
            return piece.text
        if piece.kind == "raw":
            return _raw_text(piece.text)
        # Jinja has stripped the text around it already; doing so again would strip other text.
        text = re.sub(r"^(\{[{%])[-+]", r"\1", piece.text)
        self._written.append(re.sub(r"[-+]?([}%]\})\s*\Z", r"\1", text))
        self._constructs.append(piece)
        return placeholder(len(self._constructs) - 1)

    def _part_name(self, found: re.Match[str], protected: str) -> str:
        """A tag's name, with a space after it where a branch follows that is never part of the name."""
        number = int(found["number"])
        group = next((group for group in self._groups if group[0] == number), None)
        if group is None:
            return found.group()
        for member in group:
            if not NAME_ENDS.match(protected, protected.index(placeholder(member))):
                return found.group()
        return f"{found.group()} "

    def _find_groups(self) -> list[list[int]]:
        """The numbers of constructs that belong together: `if`, `else`, `endif`."""
        words = [
            piece.words[0] if piece.kind == "block" and piece.words else "" for piece in self._constructs
        ]
        openers = {word.removeprefix("end") for word in words if word.startswith("end")}
        if refused := openers & {"set", "filter", "call"}:
            raise CannotInline(f"`{refused.pop()}` blocks can do anything with the markup inside them")
        open_: list[list[int]] = []
        groups: list[list[int]] = []
        for number, word in enumerate(words):
            if word in openers:
                open_.append([number])
            elif word in ("elif", "else") and open_:
                open_[-1].append(number)
            elif word.startswith("end") and open_:
                groups.append([*open_.pop(), number])
        return groups

    def _check(self) -> None:
        """Refuse source whose tokens another event could cut otherwise."""
        places = [self._place(index) for index in range(len(self._tokens))]
        where = {construct: place for found in places for construct, place in found.items()}
        for group in self._groups:
            if len({where[number] for number in group}) > 1:
                raise CannotInline(
                    f"`{self._written[group[0]]}` and `{self._written[group[-1]]}` stand in different tags or"
                    " attributes"
                )
        if any(piece.opens("macro") for piece in self._constructs):
            for number, text in enumerate(self._written):
                if (
                    _calls(text)
                    and ("|" in text or where[number] != ("text",))
                    and not text.startswith("{% macro")
                ):
                    raise CannotInline(f"`{text}` may change what a macro writes")

    def _place(self, index: int) -> dict[int, tuple[str | int, ...]]:
        """Where in a token each construct stands."""
        token = self._tokens[index]
        source = token.source
        if "\x1a" not in source:
            return {}
        found = [int(number) for number in PLACE.findall(source)]
        match token.type:
            case TokenType.TEXT:
                before = self._tokens[index - 1] if index else None
                if before and before.type is TokenType.START_TAG and before.name in RAW:
                    if re.search("<[/A-Za-z]*\x1a", source):
                        raise CannotInline(f"a value could end <{before.name}>")
                    return dict.fromkeys(found, ("raw", index))
                if bad := BEFORE_CONSTRUCT.search(source):
                    raise CannotInline(f"`{bad.group()[:-1]}` stands before a value; write it as a reference")
                return dict.fromkeys(found, ("text",))
            case TokenType.START_TAG:
                return self._places_in_tag(index, source)
            case TokenType.COMMENT if not LOOSE_COMMENT.search(source):
                return dict.fromkeys(found, ("comment", index))
            case _:
                raise CannotInline(f"`{self._written[found[0]]}` stands where markup is being declared")

    def _places_in_tag(self, index: int, source: str) -> dict[int, tuple[str | int, ...]]:
        places: dict[int, tuple[str | int, ...]] = {}
        name = re.match("<[^ \t\n\r\f/>]*", source)
        assert name is not None
        if PLACE.search(name.group()):
            raise CannotInline("the name of an element depends on the event")
        for attribute in ATTRIBUTE.finditer(source, name.end()):
            for number in map(int, PLACE.findall(attribute["name"])):
                if self._constructs[number].kind == "variable":
                    raise CannotInline(f"`{self._written[number]}` stands in a tag without quotes")
                places[number] = ("tag", index)
            if PLACE.search(attribute["bare"] or ""):
                raise CannotInline(f"a value of `{attribute['name']}` stands without quotes")
            for number in map(int, PLACE.findall(attribute["value"] or "")):
                places[number] = ("value", index, attribute.start())
        return places

    def _may_go(self, text: str) -> bool:
        """Whether leaving `text` out changes nothing else: whole branches, without assignments and calls."""
        if "\x1a" not in text:
            return True
        numbers = {int(number) for number in PLACE.findall(text)}
        for number in numbers:
            piece = self._constructs[number]
            if (piece.kind == "block" and piece.words[0] not in PURE_BLOCKS) or _calls(self._written[number]):
                return False
        return all(numbers.issuperset(group) or numbers.isdisjoint(group) for group in self._groups)

    # --- writing ---

    def write(self) -> str:
        """The reduced source."""
        self._drop_hidden()
        tags = [self._tag(token) for token in self._tokens]
        kept = {
            token.name
            for token, tag in zip(self._tokens, tags, strict=True)
            if token.type is TokenType.START_TAG and tag != f"<{token.name}>"
        }
        unread = INLINE - kept - self._misnested()
        out: list[str] = []
        foreign, raw = 0, False
        for token, tag in zip(self._tokens, tags, strict=True):
            starts, ends = token.type is TokenType.START_TAG, token.type is TokenType.END_TAG
            foreign += starts and token.name in FOREIGN and not token.self_closing
            if foreign:
                foreign -= ends and token.name in FOREIGN
                out.append(_foreign(token))
            elif raw or token.name in RAW:
                raw = not ends
                self._leave_out(token.source)
            else:
                out.append(self._markup(token, tag, unread))
        return PLACE.sub(lambda found: self._written[int(found.group(1))], "".join(out))

    def _markup(self, token: Token, tag: str, unread: frozenset[str]) -> str:
        match token.type:
            case TokenType.START_TAG | TokenType.END_TAG if token.name in unread:
                return ""
            case TokenType.START_TAG:
                return tag
            case TokenType.END_TAG:
                return f"</{token.name}>"
            case TokenType.TEXT:
                return self._static(token.source)
            case TokenType.DOCTYPE:  # it decides how tables and paragraphs nest
                return token.source
            case _:
                return "" if self._may_go(token.source) else token.source

    def _leave_out(self, source: str) -> None:
        if not self._may_go(source):
            raise CannotInline("a style sheet, script or title assigns or calls something")

    def _static(self, text: str) -> str:
        """Text with its braces as references, so that none joins another where a tag is left out."""
        text = text.replace("{", "&#123;")
        if not self._keeps_spaces:
            text = SPACES.sub(" ", text)
        return OPEN_REFERENCE.sub(lambda found: escape(unescape(found.group())), text)

    def _tag(self, token: Token) -> str:
        """A start tag with the attributes that are read."""
        source = token.source
        if token.type is not TokenType.START_TAG:
            return ""
        name = token.name
        wanted = ("hidden", "style", *KEPT_ATTRIBUTES.get(name, ()))
        seen: set[str] = set()
        out, left_out = f"<{name}", ""
        for attribute in ATTRIBUTE.finditer(source, len(name) + 1):
            own = attribute["name"].lower()
            if PLACE.search(own):
                return source
            written = attribute["whole"]
            if own == "style" and own in wanted and not PLACE.search(written):
                written = self._style(name, token.style, hidden="hidden" in source)
            if own in seen or own not in wanted:
                left_out += attribute["whole"]
            elif written:
                out += f" {written}"
            seen.add(own)
        return f"{out}>" if self._may_go(left_out) else source

    def _style(self, name: str, style: str, *, hidden: bool) -> str:
        """The declarations that are read, in short."""
        look = look_of(style)
        out: list[str] = []
        block = look.display in BLOCKS and not (name in LINES or name in PARAGRAPHS)
        if look.display and (hidden or block or look.display == "none"):
            out.append(f"display:{look.display}")
        if look.gone:
            out.append("opacity:0")
        if look.visible is not None:
            out.append("visibility:visible" if look.visible else "visibility:hidden")
        if look.sized is not None and self._sizes:
            out.append("font-size:1px" if look.sized else "font-size:0")
        if look.keeps is not None:
            out.append("white-space:" + {"": "normal", "lines": "pre-line", "all": "pre"}[look.keeps])
        if look.marker is not None:
            out.append("list-style-type:" + next(word for word in MARKERS if MARKERS[word] == look.marker))
        return f'style="{";".join(out)}"' if out else ""

    def _misnested(self) -> set[str]:
        """Elements whose tags close others, or are closed by others, or stand open at the end of a branch.

        Such tags decide what a parser makes of other elements, so that none of them may go; and what a loop
        leaves open nests without bound, while a parser nests 512 elements at most.
        """
        found: set[str] = set()
        open_: list[str] = []
        """Names of elements, and BRANCH where a branch begins."""
        depth = 0
        groups = {number: group for group in self._groups for number in group}
        for token in self._tokens:
            if token.type is TokenType.START_TAG and token.name not in VOID:
                open_.append(token.name)
                depth += 1
            elif token.type is TokenType.END_TAG:
                depth -= 1
                _close(open_, token.name, found)
            if depth > MAX_DEPTH:
                raise CannotInline(f"more than {MAX_DEPTH} elements are open at once")
            found_here = PLACE.findall(token.source) if "\x1a" in token.source else ()
            for number in map(int, found_here):
                group = groups.get(number)
                if group and number != group[0]:
                    while open_ and (name := open_.pop()) != BRANCH:
                        found.add(name)
                if group and number != group[-1]:
                    open_.append(BRANCH)
        return found

    def _drop_hidden(self) -> None:
        """Empty the elements that no event shows, such as preheaders, where that changes no other element."""
        index = 0
        while index < len(self._tokens):
            end = self._hidden_end(index)
            if end:
                del self._tokens[index + 1 : end]
            index += 1

    def _hidden_end(self, index: int) -> int:
        """The index of the end tag of a hidden element that holds words alone, or 0."""
        token = self._tokens[index]
        if token.type is not TokenType.START_TAG or token.name not in ("div", "p", "span"):
            return 0
        look = look_of(token.style)
        if PLACE.search(token.source) or not (look.gone or look.display == "none"):
            return 0
        for end in range(index + 1, len(self._tokens)):
            inner = self._tokens[end]
            if inner.type is TokenType.END_TAG and inner.name == token.name:
                inside = "".join(each.source for each in self._tokens[index + 1 : end])
                return end if self._may_go(inside) else 0
            if inner.type not in (TokenType.TEXT, TokenType.COMMENT):
                return 0
        return 0


def _close(open_: list[str], name: str, found: set[str]) -> None:
    """Close an element; what its end tag passes over, or finds open in no branch of its own, is misnested."""
    if open_ and open_[-1] == name:
        open_.pop()
        return
    found.add(name)
    if name in open_:
        place = len(open_) - 1 - open_[::-1].index(name)
        found.update(open_[place:])
        if BRANCH not in open_[place:]:
            del open_[place:]


def _foreign(token: Token) -> str:
    if token.name in RAW or token.source.startswith("<![CDATA["):
        raise CannotInline(f"<{token.name or '![CDATA['}> stands inside <svg> or <math>")
    return token.source.replace("{", "&#123;") if token.type is TokenType.TEXT else token.source


def _raw_text(text: str) -> str:
    found = re.fullmatch(r"\{%\s*raw\s*%\}(.*)\{%\s*endraw\s*%\}", text, re.DOTALL)
    if found is None:
        raise CannotInline("`raw` strips the text around it")
    return found.group(1).replace("{", "&#123;")


def _calls(text: str) -> bool:
    """Whether a construct calls something that may remember the call, or write markup."""
    for before, name in CALL.findall(text):
        if before.startswith(("|", "is")):
            continue
        if before == "." and name != "next":
            continue
        if name not in NOT_CALLED:
            return True
    return False
