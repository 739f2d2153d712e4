"""The description of each problem code that a manifest can get: severity, meaning, reason and way out.

`postroom check` prints these texts, writes them into SARIF and JSON, and the reference is generated from
them, so that a rule is described once. Severities:

- error: the object is rejected; - warning: readers lose something in all or most mail clients, and a change
ends the finding; `check --strict` rejects it; - info: the letter is right in some clients and simpler in
others, or costs more; nothing needs to be done, and `--strict` accepts it.

Facts about mail clients name their source. A rule without certain facts does not belong here.
"""

from dataclasses import dataclass

from postroom.letter.problems import Code, Severity

CANIEMAIL = "https://www.caniemail.com/features/"
EMAIL_BUGS = "https://github.com/hteumeuleu/email-bugs/issues/"


@dataclass(frozen=True, slots=True)
class Rule:
    """The description of one problem code; texts are Markdown, one paragraph each."""

    code: Code
    severity: Severity
    title: str
    """The finding in one sentence."""
    help: str
    """The way out."""
    why: str = ""
    """The effect on readers, or the reason for the rejection."""
    example: str = ""
    """Source with the finding."""
    instead: str = ""
    """Source without the finding."""
    sources: tuple[str, ...] = ()

    @property
    def is_lint(self) -> bool:
        """Whether a template may ignore the rule: it never causes a rejection."""
        return self.severity is not Severity.ERROR


def _error(code: Code, title: str, way_out: str, why: str = "") -> Rule:
    return Rule(code, Severity.ERROR, title, way_out, why)


ERRORS = (
    _error(
        Code.MANIFEST_INVALID,
        "A manifest's field breaks its rule.",
        "Correct the field; the message states the rule.",
    ),
    _error(Code.FIELD_MISSING, "A required field is absent.", "Add the field; the message names it."),
    _error(
        Code.FIELD_UNKNOWN,
        "A field is unknown.",
        "Correct the name (the message has a suggestion); in an event, move it into `data`.",
        "A misspelt field would have no effect.",
    ),
    _error(
        Code.CONTROL_CHARACTER,
        "A text that becomes a header, or a line of a letter, holds a control character or a line end.",
        "Remove it; a subject or a name is one line of printable text.",
        "A line end in a header would begin another header.",
    ),
    _error(
        Code.ATTACHMENT_INVALID,
        "An attachment is not base64, has a path for a name, or breaks a limit.",
        "Encode it as base64, name it without a path, and mind the [limits](event-limits.md).",
    ),
    _error(
        Code.TOO_LARGE,
        "The manifest or the event, or one of its parts, is larger than its limit.",
        "Send less: link to a file instead of attaching it, shorten lists.",
    ),
    _error(
        Code.TOO_DEEP,
        "The JSON, or the elements of a page, are nested more deeply than is read.",
        "Flatten the data; in a page, look for an element in a loop that is not closed.",
    ),
    _error(
        Code.TEMPLATE_SYNTAX,
        "The template is not valid Jinja2.",
        "Correct the underlined place.",
        "It cannot be rendered.",
    ),
    _error(
        Code.TEMPLATE_UNSAFE,
        "The template uses something that the sandbox does not allow.",
        "Put the finished value into `data` instead.",
        "Templates run on untrusted data. Whatever could reach the program, or write HTML from the event "
        "into a letter, is rejected.",
    ),
    _error(
        Code.FILTER_NOT_ALLOWED,
        "The template uses a filter, test or function that is not on the list.",
        "Use a filter of the list in [](template-language.md).",
    ),
    _error(
        Code.VARIABLE_UNDECLARED,
        "The template uses a variable that `spec.variables` does not declare.",
        "Declare it, or correct its name; the message has a suggestion.",
        "An event with it would be rejected, and an event without it could not be rendered.",
    ),
    _error(
        Code.VARIABLE_MISSING,
        "The template's schema requires a variable that the event or sample does not have.",
        "Add the variable to `data`, or give it a default in the schema.",
    ),
    _error(
        Code.VARIABLE_UNKNOWN,
        "The event or sample has a variable that the template's schema does not declare.",
        "Correct the name, or declare the variable in the schema.",
    ),
    _error(
        Code.VARIABLE_INVALID,
        "A variable's value does not fit the template's schema.",
        "Correct the value; the message states the schema's rule.",
    ),
    _error(
        Code.RENDER_FAILED,
        "The template failed while it rendered a sample or an event.",
        "Correct the underlined place. If an event failed, add a sample with its data first.",
    ),
    _error(
        Code.RENDER_LIMIT,
        "Rendering exceeded its limit of loop iterations, output or time.",
        "Shorten the list in the event, or what the template does with each element.",
    ),
    _error(
        Code.PARTIAL_NOT_FOUND,
        "The template includes a partial that its layout does not have.",
        "Add the partial to the layout, or correct its name.",
    ),
    _error(
        Code.BLOCK_NOT_FOUND,
        "The template fills a block that its layout does not have.",
        "Add the block to the layout, or correct its name.",
        "The content of the block would not be in the letter.",
    ),
    _error(
        Code.LAYOUT_NOT_FOUND,
        "`layoutRef` names an EmailLayout that does not exist in the namespace.",
        "Apply the layout, or correct the name. In a check, `--context` names its folder.",
    ),
    _error(
        Code.PROFILE_NOT_FOUND,
        "`smtpProfileRef` names an SmtpProfile that does not exist in the namespace.",
        "Apply the profile, or correct the name. In a check, `--context` names its folder.",
    ),
    _error(
        Code.SCHEMA_INVALID,
        "`spec.variables` is not a valid JSON Schema, or refers to another document.",
        "Correct the schema; `$ref` may point only into the same schema.",
    ),
    _error(
        Code.SAMPLE_FAILED,
        "A sample does not fit the schema, or does not render.",
        "Correct the sample or the template; the message names the line.",
    ),
    _error(
        Code.HEADER_NOT_ALLOWED,
        "A header is not on the list of those that a template may set.",
        "Use an `X-…` header; what Postroom sets itself cannot be overridden.",
    ),
    _error(
        Code.SENDER_NOT_ALLOWED,
        "The letter's From address is in no domain that the profile allows.",
        "Use an address of an allowed domain, or add the domain to `allowedFromDomains`.",
    ),
    _error(
        Code.EVENT_TYPE_CONFLICT,
        "Two templates of one profile serve the same event type.",
        "Remove the event type from one of the two.",
    ),
    _error(
        Code.TOPIC_CONFLICT,
        "Another profile of the namespace has the topic, or one of its derived topics.",
        "Name another `kafka.topic`, or delete the other profile first.",
    ),
    _error(
        Code.CSS_INVALID,
        "The style sheet cannot be read.",
        "Correct the underlined place.",
        "Mail clients drop what they cannot read, each in its own way.",
    ),
    _error(
        Code.VALIDATION_TIMED_OUT,
        "The validation exceeded its time limit; the last valid revision stays in use.",
        "Remove nested loops, or some of the samples and languages.",
    ),
    _error(
        Code.MESSAGE_INVALID,
        "A message's key or text breaks its rule, or a text uses a message that is markup.",
        "Write placeholders as `{name}`; a key that ends in `_html` holds markup and goes into html.",
    ),
    _error(
        Code.MESSAGE_NOT_FOUND,
        "The template calls `t(…)` with an unknown key, or with one that has no plural form for a number.",
        "Add the message, or correct the key; the message has a suggestion.",
    ),
    _error(
        Code.MESSAGE_VALUE_MISSING,
        "A message has a placeholder for which the template gives no value.",
        'Give the value: `t("key", name=value)`; or correct the placeholder.',
    ),
)

LINT = (
    Rule(
        Code.IMAGE_WITHOUT_ALT,
        Severity.WARNING,
        "An image has no `alt` text.",
        'Write what the image says: `alt="Order shipped"`. An image that only decorates has `alt=""`.',
        "Many clients show no images until the reader asks for them, and show the text instead; a screen "
        "reader reads the file's name aloud when there is none.",
        '<img src="https://shop.example/banner.png" width="600">',
        '<img src="https://shop.example/banner.png" width="600" alt="Two for one until Sunday">',
        ("https://www.w3.org/WAI/tutorials/images/",),
    ),
    Rule(
        Code.IMAGE_WITHOUT_WIDTH,
        Severity.INFO,
        "An image gets its width from CSS and has no `width` attribute.",
        'Add the attribute beside the CSS, in pixels and without a unit: `width="300"`.',
        "Outlook for Windows ignores the CSS width of images and shows the file at its own size, "
        "which is twice "
        "as large for a picture made for high-resolution screens.",
        '<img src="https://shop.example/logo@2x.png" alt="Shop" style="width:150px">',
        '<img src="https://shop.example/logo@2x.png" alt="Shop" width="150" style="width:150px">',
        (f"{CANIEMAIL}css-width/",),
    ),
    Rule(
        Code.IMAGE_IS_SVG,
        Severity.INFO,
        "An image is an SVG file.",
        "Use a PNG file of twice the size, with `width` and `height`.",
        "Gmail on the web and Outlook for Windows do not show SVG files; they show the `alt` text.",
        '<img src="https://shop.example/logo.svg" alt="Shop">',
        '<img src="https://shop.example/logo@2x.png" alt="Shop" width="150" height="40">',
        (f"{CANIEMAIL}image-svg/",),
    ),
    Rule(
        Code.SVG_NOT_SHOWN,
        Severity.WARNING,
        "The page holds an `<svg>` drawing.",
        "Use an image file (PNG), or put the drawing into a comment that only one client reads.",
        "The element is removed with its content, so that nothing is shown.",
        '<svg width="24" height="24"><path d="M0 0h24v24z"/></svg>',
        '<img src="https://shop.example/icon@2x.png" alt="" width="24" height="24">',
        (f"{CANIEMAIL}html-svg/",),
    ),
    Rule(
        Code.ELEMENT_REMOVED,
        Severity.WARNING,
        "The page holds an element that mail clients remove: `<script>`, `<iframe>`, `<object>` or "
        "`<embed>`.",
        "Link to a web page that has it. A `<script>` of type `application/ld+json` is data and is "
        "no finding.",
        "Clients remove it for the reader's safety, so that no reader sees what it does.",
        '<iframe src="https://video.example/42"></iframe>',
        '<a href="https://video.example/42"><img src="https://video.example/42.jpg" alt="Play the '
        'video"></a>',
        (f"{CANIEMAIL}html-object/",),
    ),
    Rule(
        Code.FORM_UNRELIABLE,
        Severity.INFO,
        "The page holds a `<form>`.",
        "Link to a page that has the form.",
        "Outlook shows no forms, Gmail and others show them and do not always send them.",
        '<form action="https://shop.example/rate"><input name="stars"></form>',
        '<a href="https://shop.example/rate?order=42">Rate your order</a>',
        (f"{CANIEMAIL}html-form/",),
    ),
    Rule(
        Code.VIDEO_WITHOUT_FALLBACK,
        Severity.WARNING,
        "A `<video>` or `<audio>` element has nothing inside of it for clients that cannot play it.",
        "Put a linked picture into the element: clients that cannot play it show what is inside.",
        "Apple Mail plays it; Gmail, Outlook and Yahoo remove the element and show its content, of "
        "which there "
        "is none.",
        '<video src="https://shop.example/tour.mp4" controls></video>',
        '<video src="https://shop.example/tour.mp4" controls>\n'
        '  <a href="https://shop.example/tour"><img src="https://shop.example/tour.jpg" alt="Watch '
        'the tour"></a>\n'
        "</video>",
        (f"{CANIEMAIL}html-video/",),
    ),
    Rule(
        Code.STYLESHEET_NOT_LOADED,
        Severity.WARNING,
        "A style sheet is linked, and nothing loads it.",
        "Put the CSS into `spec.css`, or into a `<style>` element.",
        "Nothing is fetched when a letter is made, and Gmail and Outlook load no style sheets: the "
        "letter arrives "
        "without these styles. Links to fonts of the usual font services are no finding.",
        '<link rel="stylesheet" href="https://shop.example/mail.css">',
        "<style>.card { padding: 24px }</style>",
        (f"{CANIEMAIL}html-link/",),
    ),
    Rule(
        Code.LANGUAGE_MISSING,
        Severity.WARNING,
        "The page does not declare its language.",
        'Write `<html lang="{{ letter.locale }}">`, or the language itself: `<html lang="en">`.',
        "A screen reader reads the letter with the voice of the reader's own language, and clients offer to "
        "translate it.",
        "<html><body>Hello</body></html>",
        '<html lang="{{ letter.locale }}"><body>Hello</body></html>',
        ("https://www.w3.org/WAI/WCAG22/Understanding/language-of-page",),
    ),
    Rule(
        Code.LINK_LEADS_NOWHERE,
        Severity.WARNING,
        "A link has no address that it leads to.",
        "Write the address, or take the link away.",
        'An empty `href`, `href="#"`, an anchor that is not in the page and `javascript:` do nothing '
        "in a mail "
        "client, or lead to the client's own page.",
        '<a href="#">Track your order</a>',
        '<a href="{{ tracking_url }}">Track your order</a>',
    ),
    Rule(
        Code.LINK_INSECURE,
        Severity.INFO,
        "A link or an image uses `http://`.",
        "Write `https://`, if the site has it.",
        "An observer of the traffic sees which page the reader opens, and webmail pages show no images "
        "over `http://`.",
        '<a href="http://shop.example/">Shop</a>',
        '<a href="https://shop.example/">Shop</a>',
    ),
    Rule(
        Code.UNSUBSCRIBE_NOT_SHOWN,
        Severity.WARNING,
        "A letter of category `Subscription` has no link to unsubscribe.",
        'Add `<a href="{{ letter.unsubscribe_url }}">Unsubscribe</a>`, in the template or in its layout.',
        "The law requires it in most countries, and Gmail and Yahoo require it of bulk senders; the "
        "header alone is "
        "not seen by every reader.",
        "<p>Our news of March</p>",
        '<p>Our news of March</p><p><a href="{{ letter.unsubscribe_url }}">Unsubscribe</a></p>',
        ("https://support.google.com/a/answer/81126",),
    ),
    Rule(
        Code.SUBJECT_LONG,
        Severity.INFO,
        "The subject of a sample's letter is longer than clients show.",
        "Put what matters into its first words.",
        "A list of letters shows about 78 characters on a large screen and about 40 on a phone.",
        "subject: A sentence that goes on and on, and says what matters only at its very end: your "
        "order is late",
        "subject: Your order is late",
    ),
    Rule(
        Code.LETTER_CLIPPED,
        Severity.WARNING,
        "The HTML of a sample's letter is larger than 102 KB once its CSS is inlined.",
        "Shorten the letter, or what is repeated in it: set a style on the table or the cell around "
        "instead of on "
        "each element of a loop, and link to the rest of a long list.",
        "Gmail shows the first 102 KB and puts a link in the place of the rest: the unsubscribe "
        "link, usually, and "
        "the picture that counts openings.",
        sources=(f"{EMAIL_BUGS}41",),
    ),
    Rule(
        Code.STYLES_TOO_LARGE,
        Severity.WARNING,
        "The `<style>` elements of a sample's letter hold more than 16 KB.",
        "Take out rules that the letter does not use: these are the ones that cannot be inlined, "
        "such as media "
        "queries and fonts.",
        "Gmail reads the first 16 KB (16,384 characters) and ignores the elements that go beyond: "
        "media queries "
        "and dark mode do not work there.",
        sources=(f"{EMAIL_BUGS}90", "https://github.com/hteumeuleu/caniemail/issues/144"),
    ),
    Rule(
        Code.STYLE_IN_BODY,
        Severity.INFO,
        "A `<style>` element is in the body of the letter.",
        "Move it into `<head>`, or into `spec.css`.",
        "Gmail and Outlook for Windows read `<style>` elements only in the head. Rules that are "
        "inlined are not "
        "concerned; media queries are.",
        "<body><style>@media (max-width: 600px) { .card { padding: 8px } }</style></body>",
        "<head><style>@media (max-width: 600px) { .card { padding: 8px } }</style></head>",
        (f"{CANIEMAIL}html-style/",),
    ),
    Rule(
        Code.STYLE_NESTED_AT_RULE,
        Severity.INFO,
        "A rule such as `@media` or `@supports` holds another one.",
        "Write the condition in one rule: `@media (max-width: 600px) and (prefers-color-scheme: dark)`.",
        "Gmail on the web ignores the whole `<style>` element that holds such a rule.",
        "@media screen { @media (max-width: 600px) { .card { padding: 8px } } }",
        "@media screen and (max-width: 600px) { .card { padding: 8px } }",
        (f"{EMAIL_BUGS}21",),
    ),
    Rule(
        Code.CSS_VARIABLE_UNSUPPORTED,
        Severity.INFO,
        "A style uses a custom property, `var(--…)`, without a plain value before it.",
        "Write the plain value first: `color: #1a1a1a; color: var(--ink)`.",
        "Gmail, Outlook and Yahoo do not support custom properties and ignore the declaration.",
        '<p style="color: var(--ink)">Hello</p>',
        '<p style="color: #1a1a1a; color: var(--ink)">Hello</p>',
        (f"{CANIEMAIL}css-variables/",),
    ),
    Rule(
        Code.POSITION_UNSUPPORTED,
        Severity.INFO,
        "An element is placed with `position: absolute`, `fixed` or `sticky`.",
        "Place it with a table, `padding` or `margin`; what lies over a picture belongs into the picture.",
        "Gmail and Outlook ignore `position`: the element is in the normal flow.",
        '<span style="position:absolute; top:8px; right:8px">New</span>',
        '<td align="right" style="padding:8px">New</td>',
        (f"{CANIEMAIL}css-position/",),
    ),
    Rule(
        Code.BACKGROUND_WITHOUT_FALLBACK,
        Severity.INFO,
        "An element has a background image and nothing for clients that do not show it.",
        "Add a `background-color` (or `bgcolor`) that its text can be read on, or VML for Outlook.",
        "Outlook for Windows shows no CSS background images: light text is on white.",
        '<td style="background-image:url(https://shop.example/night.jpg); color:#fff">Good night</td>',
        '<td bgcolor="#111122" style="background-image:url(https://shop.example/night.jpg); color:#fff">'
        "Good night</td>",
        (f"{CANIEMAIL}css-background-image/",),
    ),
    Rule(
        Code.VARIABLE_UNUSED,
        Severity.INFO,
        "A variable is declared and not used.",
        "Use it, or remove it from the schema once no event has it.",
        "It may be a leftover, or a sentence of the letter is missing.",
    ),
    Rule(
        Code.CSS_INLINED_PER_LETTER,
        Severity.INFO,
        "CSS is inlined for each letter and not once.",
        "Nothing needs to be done. To have it inlined once, make what the message names independent of "
        "the event.",
        "The elements that a style applies to depend on the event. The letters are right; each takes some "
        "milliseconds more.",
    ),
    Rule(
        Code.PAGE_DIFFERS,
        Severity.WARNING,
        "An element of a letter differs from its source page.",
        "Look at the element in both pages, and report it: it is a bug of Postroom. Until it is fixed, a "
        "separate class for the element, or a `style` attribute, usually avoids it.",
        "Chromium computes other styles for it once CSS is inlined. Only `postroom check --browser` does so.",
    ),
    Rule(
        Code.IGNORE_INVALID,
        Severity.WARNING,
        "A request to ignore a rule names an unknown rule, or an error.",
        "Correct the name. Errors cannot be ignored.",
        "The request has no effect.",
        "{# postroom: ignore image_without_text #}",
        "{# postroom: ignore image_without_alt #}",
    ),
    Rule(
        Code.CSS_IGNORED,
        Severity.WARNING,
        "A part of the CSS is invalid, and browsers ignore it; the rest of the sheet applies.",
        "Correct it, or delete it.",
        "The letter looks as if the part were not there, here as in a browser.",
    ),
    Rule(
        Code.CSS_HOOK_OVERRIDDEN,
        Severity.WARNING,
        "A rule for one mail client (`u + .body`, `[data-ogsc] .x`) does not apply there.",
        "Write `!important` on it where it may override the other rule, or make the other rule's selector"
        " more specific.",
        "Inline declarations override rules without `!important`.",
    ),
    Rule(
        Code.VARIABLE_MAY_BE_ABSENT,
        Severity.WARNING,
        "A variable that the schema allows to be absent or null is printed without a test for it.",
        "Write `{% if name %}…{% endif %}` or `{{ name|default(…) }}`; or give it a default, or require it,"
        " in `variables`.",
        "An event without it is accepted by the schema and becomes a dead letter.",
    ),
    Rule(
        Code.VARIABLES_NOT_REQUIRED,
        Severity.INFO,
        "No variable is required, though the template needs some.",
        "List them in `variables.required`.",
        "An event without them is accepted by the schema and becomes a dead letter.",
    ),
    Rule(
        Code.SAMPLE_WITHOUT_OPTIONAL_MISSING,
        Severity.INFO,
        "No sample leaves out an optional variable.",
        "Add a sample without it, to see the letter as it is then.",
    ),
    Rule(
        Code.PLACEHOLDER_FOREIGN,
        Severity.WARNING,
        "The text holds a placeholder of another template language.",
        "Write `{{ name }}`, or `{% raw %}…{% endraw %}` to show it.",
        "It is sent unchanged.",
    ),
    Rule(
        Code.CID_DANGLING,
        Severity.WARNING,
        "The html refers by `cid:` to a part that the letter does not have, so that no image is shown.",
        "Attach the image with that `contentId`, or name the attachment's; of images that"
        " events bring, list the ID in the sample's `contentIds`.",
    ),
    Rule(
        Code.IMAGE_IS_DATA,
        Severity.WARNING,
        "An image has a `data:` address, which Outlook for Windows and some Gmail apps do not show.",
        "Attach the image with a `contentId` and write `cid:`, or link to it with https.",
    ),
    Rule(
        Code.ADDRESS_RELATIVE,
        Severity.WARNING,
        "An address is relative; a letter has no base address.",
        "Write the whole address, with https://.",
    ),
    Rule(
        Code.ENTITY_IN_TEXT,
        Severity.WARNING,
        "A text field, such as the subject, holds a character reference like `&amp;`, which"
        " readers see as it is.",
        "Write the character itself.",
    ),
    Rule(
        Code.CALENDAR_METHOD,
        Severity.WARNING,
        "A calendar's METHOD is not the one of its content type, so that no client offers a reply.",
        "Write the same method in both.",
    ),
    Rule(
        Code.MESSAGE_UNTRANSLATED,
        Severity.WARNING,
        "A language has no text for a message, so that its letters show another language's.",
        "Add the texts to the language's `messages`; the finding lists them.",
    ),
    Rule(
        Code.MESSAGE_VALUE_UNUSED,
        Severity.WARNING,
        "The template gives a message a value that the text does not print.",
        "Print it as `{name}`, or leave it out of the call.",
    ),
    Rule(
        Code.PLURAL_INCOMPLETE,
        Severity.WARNING,
        "A language counts with more plural forms than the message has.",
        "Add the forms that the finding lists.",
    ),
    Rule(
        Code.CID_UNUSED,
        Severity.INFO,
        "An attachment has a `contentId`, and no sample's letter refers to it.",
        "Refer to it by `cid:`, or remove `contentId` to send it as a file.",
    ),
    Rule(
        Code.MESSAGE_UNUSED,
        Severity.INFO,
        "A message is not used.",
        "Remove it, or correct its key.",
    ),
)

RULES: dict[Code, Rule] = {rule.code: rule for rule in (*ERRORS, *LINT)}
