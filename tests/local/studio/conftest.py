"""A studio over a folder of manifests, asked without a socket."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from postroom.local.data_folder import DataFolder
from postroom.local.manifests import FolderReader
from postroom.local.studio.pages import StudioContext
from postroom.local.studio.sending import Sender
from postroom.local.studio.server import create_app
from postroom.local.studio.state import Studio
from tests.local.manifest_texts import LAYOUT, PROFILE, write_manifests

Ask = Callable[..., httpx.Response]

ORDER = """\
apiVersion: postroom.dev/v1alpha1
kind: EmailTemplate
metadata: {name: order}
spec:
  smtpProfileRef: {name: shop}
  layoutRef: {name: page}
  eventTypes: [order.paid]
  subject: "Order {{ id }}"
  preheader: "Thank you, {{ name }}."
  html: |
    {% block content %}
    <h1 style="color: #111">Hello {{ name }}</h1>
    <img src="https://cdn.example/logo.png" alt="Larkfield" width="120" height="40">
    {% for item in items %}<p>{{ item.count }} {{ item.title }}</p>{% endfor %}<p>{{ note }}</p>
    {% endblock %}
  locales:
    - tag: de
      subject: "Bestellung {{ id }}"
  variables:
    type: object
    required: [id, name]
    properties:
      id: {type: string}
      name: {type: string, maxLength: 20}
      note: {type: string, default: ""}
      items:
        type: array
        default: []
        items:
          type: object
          additionalProperties: false
          required: [title, count]
          properties:
            title: {type: string}
            count: {type: integer, minimum: 1}
  samples:
    - name: ada
      data: {id: "7", name: Ada, note: "", items: [{title: Mug, count: 2}]}
    - name: bob
      locale: de
      recipient: bob@example.org
      data: {id: "8", name: Bob}
"""


class Folder:
    """A folder of manifests, its reader and the studio that shows it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.studio = Studio()
        self._reader = FolderReader(path)
        write_manifests(path, profile=PROFILE, order=ORDER, page=LAYOUT)
        self.read()

    def read(self) -> None:
        self.studio.update(self._reader.read())

    def write(self, **files: str) -> None:
        """Save files, and take the reading that follows."""
        write_manifests(self.path, **files)
        self.read()

    @property
    def context(self) -> StudioContext:
        sender = Sender("http://127.0.0.1:1", "http://127.0.0.1:8025", DataFolder(self.path / "none"), list)
        return StudioContext(self.studio, sender, self.path, Path(".postroom"))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "manifests").mkdir()
    return Folder(tmp_path / "manifests")


@pytest.fixture
def ask(folder: Folder) -> Iterator[Ask]:
    """Asks the studio: `ask("GET", "/templates")`."""
    transport = httpx.ASGITransport(create_app(folder.context))

    async def send(method: str, url: str, **more: Any) -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8026") as client:
            return await client.request(method, url, **more)

    with asyncio.Runner() as runner:
        yield lambda method, url, **more: runner.run(send(method, url, **more))
