"""The smallest manifests, for tests to extend."""

from typing import Any

API_VERSION = "postroom.dev/v1alpha1"
Object = dict[str, Any]


def profile(name: str = "shop", **spec: Any) -> Object:
    """An SmtpProfile; `from_` for `from`."""
    sender = spec.pop("from_", {"address": "post@larkfield.example"})
    return _manifest("SmtpProfile", name, {"from": sender, **spec})


def template(name: str = "welcome", html: str = "<p>Hello {{ name }}</p>", **spec: Any) -> Object:
    """An EmailTemplate of profile `shop` for the event type of its name; `from_` for `from`."""
    if "from_" in spec:
        spec["from"] = spec.pop("from_")
    whole = {
        "smtpProfileRef": {"name": "shop"},
        "eventTypes": [f"shop.{name}"],
        "subject": "Welcome, {{ name }}",
        "html": html,
        "variables": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        "samples": [{"name": "ada", "data": {"name": "Ada"}}],
    }
    return _manifest("EmailTemplate", name, {**whole, **spec})


def layout(name: str = "larkfield", button: str = "<a>Go</a>") -> Object:
    """An EmailLayout with the partial `button`."""
    page = '<html lang="en"><body>{% block content %}{% endblock %}{% include "button" %}</body></html>'
    return _manifest("EmailLayout", name, {"html": page, "partials": [{"name": "button", "html": button}]})


def _manifest(kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
