"""The gateway finds Kafka by bootstrap servers or by the connections Secret; exactly one of them is set."""

import asyncio
from pathlib import Path

import pytest

from postroom.gateway.main import open_publisher
from postroom.gateway.settings import GatewaySettings
from postroom.letter.problems import Rejected
from postroom.startup import read_settings

SECRET = {
    "kafka-bootstrap-servers": "127.0.0.1:1",
    "kafka-security-protocol": "SSL",
    "kafka-ca.crt": "-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n",
}


def mount(folder: Path, keys: dict[str, str]) -> Path:
    for key, text in keys.items():
        (folder / key).write_text(text)
    return folder


async def open_and_close(settings: GatewaySettings) -> None:
    await open_publisher(settings).close()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "POSTROOM_BOOTSTRAP_SERVERS: is not set"),
        ({"CONNECTIONS": "c", "BOOTSTRAP_SERVERS": "b"}, "POSTROOM_CONNECTIONS is set as well"),
    ],
)
def test_exactly_one_way_to_kafka_is_set(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for name, value in ({"BUNDLES": "b"} | environment).items():
        monkeypatch.setenv(f"POSTROOM_{name}", value)
    with pytest.raises(Rejected, match=message):
        read_settings(GatewaySettings)


def test_the_keys_of_the_ledger_are_not_required(tmp_path: Path) -> None:
    secret = mount(tmp_path, {"kafka-bootstrap-servers": "127.0.0.1:1"})
    asyncio.run(open_and_close(GatewaySettings(bundles=tmp_path, connections=secret)))


def test_a_missing_secret_is_named_in_the_error(tmp_path: Path) -> None:
    settings = GatewaySettings(bundles=tmp_path, connections=tmp_path / "nowhere")
    with pytest.raises(Rejected, match=r"the Secret mounted at .*nowhere: is not there"):
        asyncio.run(open_and_close(settings))


def test_a_setting_that_the_client_rejects_is_an_error_line_without_a_traceback(tmp_path: Path) -> None:
    settings = GatewaySettings(bundles=tmp_path, connections=mount(tmp_path, SECRET))
    with pytest.raises(Rejected, match=r"the Secret mounted at .*ssl\.ca\.location"):
        asyncio.run(open_and_close(settings))
