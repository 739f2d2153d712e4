"""MJML's components: which stand where, and which attributes each has (MJML 4, documentation.mjml.io).

The compiler leaves out what it does not know without a word, so a template is checked against these tables
first.
"""

CHILDREN: dict[str, frozenset[str]] = {
    "mjml": frozenset(
        (
            "mj-head",
            "mj-body",
        )
    ),
    "mj-head": frozenset(
        (
            "mj-attributes",
            "mj-breakpoint",
            "mj-font",
            "mj-preview",
            "mj-raw",
            "mj-style",
            "mj-title",
        )
    ),
    "mj-body": frozenset(
        (
            "mj-hero",
            "mj-raw",
            "mj-section",
            "mj-wrapper",
        )
    ),
    "mj-wrapper": frozenset(
        (
            "mj-hero",
            "mj-raw",
            "mj-section",
        )
    ),
    "mj-section": frozenset(
        (
            "mj-column",
            "mj-group",
            "mj-raw",
        )
    ),
    "mj-group": frozenset(
        (
            "mj-column",
            "mj-raw",
        )
    ),
    "mj-column": frozenset(
        (
            "mj-accordion",
            "mj-button",
            "mj-carousel",
            "mj-divider",
            "mj-image",
            "mj-navbar",
            "mj-raw",
            "mj-social",
            "mj-spacer",
            "mj-table",
            "mj-text",
        )
    ),
    "mj-hero": frozenset(
        (
            "mj-accordion",
            "mj-button",
            "mj-carousel",
            "mj-divider",
            "mj-image",
            "mj-navbar",
            "mj-raw",
            "mj-social",
            "mj-spacer",
            "mj-table",
            "mj-text",
        )
    ),
    "mj-social": frozenset(
        (
            "mj-raw",
            "mj-social-element",
        )
    ),
    "mj-navbar": frozenset(
        (
            "mj-navbar-link",
            "mj-raw",
        )
    ),
    "mj-accordion": frozenset(("mj-accordion-element",)),
    "mj-accordion-element": frozenset(
        (
            "mj-accordion-title",
            "mj-accordion-text",
        )
    ),
    "mj-carousel": frozenset(("mj-carousel-image",)),
}
"""The components that may stand in each one. What is not a key here and not in `CONTENT` is empty."""

CONTENT = frozenset(
    (
        "mj-accordion-text",
        "mj-accordion-title",
        "mj-button",
        "mj-navbar-link",
        "mj-preview",
        "mj-raw",
        "mj-social-element",
        "mj-style",
        "mj-table",
        "mj-text",
        "mj-title",
    )
)
"""Components whose content is HTML or text, which is taken as it is."""

_TABLE = """
mj-body: background-color width
mj-head:
mj-attributes:
mj-breakpoint: width
mj-font: href name
mj-preview:
mj-style: inline
mj-title:
mj-hero: background-color background-height background-position background-url background-width
  border-radius container-background-color height inner-background-color inner-padding
  inner-padding-bottom inner-padding-left inner-padding-right inner-padding-top mode padding
  padding-bottom padding-left padding-right padding-top vertical-align
mj-button: align background-color border border-bottom border-left border-radius border-right
  border-top color container-background-color font-family font-size font-style font-weight height
  href inner-padding letter-spacing line-height name padding padding-bottom padding-left
  padding-right padding-top rel target text-align text-decoration text-transform title
  vertical-align width
mj-column: background-color border border-bottom border-left border-radius border-right border-top
  direction inner-background-color inner-border inner-border-bottom inner-border-left
  inner-border-radius inner-border-right inner-border-top padding padding-bottom padding-left
  padding-right padding-top vertical-align width
mj-divider: align border-color border-style border-width container-background-color padding
  padding-bottom padding-left padding-right padding-top width
mj-group: background-color direction vertical-align width
mj-image: align alt border border-bottom border-left border-radius border-right border-top
  container-background-color fluid-on-mobile font-size height href max-height name padding
  padding-bottom padding-left padding-right padding-top rel sizes src srcset target title usemap
  width
mj-raw: position
mj-section: background-color background-position background-position-x background-position-y
  background-repeat background-size background-url border border-bottom border-left border-radius
  border-right border-top direction full-width padding padding-bottom padding-left padding-right
  padding-top text-align text-padding
mj-spacer: border border-bottom border-left border-right border-top container-background-color
  height padding padding-bottom padding-left padding-right padding-top
mj-text: align background-color color container-background-color font-family font-size font-style
  font-weight height letter-spacing line-height padding padding-bottom padding-left padding-right
  padding-top text-decoration text-transform vertical-align
mj-table: align border cellpadding cellspacing color container-background-color font-family
  font-size font-weight line-height padding padding-bottom padding-left padding-right padding-top
  role table-layout vertical-align width
mj-wrapper: background-color background-position background-position-x background-position-y
  background-repeat background-size background-url border border-bottom border-left border-radius
  border-right border-top direction full-width gap padding padding-bottom padding-left padding-right
  padding-top text-align text-padding
mj-social: align border-radius color container-background-color font-family font-size font-style
  font-weight icon-height icon-padding icon-size inner-padding line-height mode padding
  padding-bottom padding-left padding-right padding-top table-layout text-decoration text-padding
  vertical-align
mj-social-element: align alt background-color border-radius color font-family font-size font-style
  font-weight href icon-height icon-padding icon-position icon-size line-height name padding
  padding-bottom padding-left padding-right padding-top rel sizes src srcset target text-decoration
  text-padding title vertical-align
mj-navbar: align base-url hamburger ico-align ico-close ico-color ico-font-family ico-font-size
  ico-line-height ico-open ico-padding ico-padding-bottom ico-padding-left ico-padding-right
  ico-padding-top ico-text-decoration ico-text-transform padding padding-bottom padding-left
  padding-right padding-top
mj-navbar-link: color font-family font-size font-style font-weight href letter-spacing line-height
  name padding padding-bottom padding-left padding-right padding-top rel target text-decoration
  text-transform
mj-accordion: border container-background-color font-family icon-align icon-height icon-position
  icon-unwrapped-alt icon-unwrapped-url icon-width icon-wrapped-alt icon-wrapped-url padding
  padding-bottom padding-left padding-right padding-top
mj-accordion-element: background-color border font-family icon-align icon-height icon-position
  icon-unwrapped-alt icon-unwrapped-url icon-width icon-wrapped-alt icon-wrapped-url
mj-accordion-text: background-color color font-family font-size font-weight letter-spacing
  line-height padding padding-bottom padding-left padding-right padding-top
mj-accordion-title: background-color color font-family font-size font-weight padding padding-bottom
  padding-left padding-right padding-top
mj-carousel: align border-radius container-background-color icon-width left-icon padding
  padding-bottom padding-left padding-right padding-top right-icon tb-border tb-border-radius
  tb-hover-border-color tb-selected-border-color tb-width thumbnails
mj-carousel-image: alt border-radius href rel src target tb-border tb-border-radius thumbnails-src
  title
"""

ATTRIBUTES: dict[str, frozenset[str]] = {
    name: frozenset(names.split())
    for name, _, names in (entry.partition(":") for entry in _TABLE.strip().replace("\n  ", " ").split("\n"))
}
"""Each component's own attributes. All of them take css-class and mj-class as well."""
