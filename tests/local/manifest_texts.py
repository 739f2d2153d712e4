"""Small manifests for the tests of local mode."""

from pathlib import Path

PROFILE = """\
apiVersion: postroom.dev/v1alpha1
kind: SmtpProfile
metadata: {name: shop}
spec:
  from: {name: Shop, address: shop@example.org}
"""
TEMPLATE = """\
apiVersion: postroom.dev/v1alpha1
kind: EmailTemplate
metadata: {name: welcome}
spec:
  smtpProfileRef: {name: shop}
  eventTypes: [user.welcomed]
  subject: Welcome
  html: |
    <p>Hello {{ name }}</p>
  variables:
    type: object
    properties:
      name: {type: string}
    required: [name]
  samples:
    - name: ada
      data: {name: Ada}
"""
LAYOUT = """\
apiVersion: postroom.dev/v1alpha1
kind: EmailLayout
metadata: {name: page}
spec:
  html: |
    <html lang="en"><head><title>Shop</title></head>
    <body>
    {% block content %}{% endblock %}
    </body></html>
"""


def write_manifests(folder: Path, **files: str) -> None:
    """Write `name.yaml` for each argument."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
