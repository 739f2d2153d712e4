"""The settings of the sandbox, and its program."""

import os
import signal
import smtplib
import socket
import threading
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from postroom import logs
from postroom.http.endpoint import Endpoint
from postroom.sandbox import main
from postroom.sandbox.settings import SandboxSettings
from tests.sandbox.sample_letters import letter


@pytest.fixture(autouse=True)
def leave_logging_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "configure_logging", lambda _form: None)


def settings(monkeypatch: pytest.MonkeyPatch, **given: str) -> SandboxSettings:
    for name, value in {"database": "x.sqlite", **given}.items():
        monkeypatch.setenv(f"POSTROOM_SANDBOX_{name.upper()}", value)
    return SandboxSettings()  # type: ignore[call-arg]


def test_the_defaults_stay_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(monkeypatch)
    assert (found.sandbox_smtp, found.sandbox_http) == (
        Endpoint("127.0.0.1", 1025),
        Endpoint("127.0.0.1", 8025),
    )
    assert found.sandbox_allowed_hosts == frozenset()


def test_endpoints_and_host_names_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(
        monkeypatch, smtp="[::1]:2525", http="0.0.0.0:80", allowed_hosts="inbox, Inbox.shop.example"
    )
    assert found.sandbox_smtp == Endpoint("::1", 2525)
    assert str(found.sandbox_smtp) == "[::1]:2525"
    assert found.sandbox_allowed_hosts == {"inbox", "inbox.shop.example"}


@pytest.mark.parametrize("value", ["1025", "localhost", "localhost:x", ":1025", "localhost:70000"])
def test_an_endpoint_without_host_or_port_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    with pytest.raises(ValidationError, match="is not host:port, for instance"):
        settings(monkeypatch, smtp=value)


def use_until_closed(smtp: Endpoint, http: Endpoint, seen: list[str]) -> None:
    """Send a letter, wait for it, open an event stream, and end the program while the stream is open."""
    try:
        with smtplib.SMTP(*smtp) as client:
            client.send_message(letter("Hello"))
        found = httpx.get(f"http://{http}/api/v1/wait?subject=Hello&timeout=10", timeout=20)
        seen.append(found.json()["subject"])
        with httpx.stream("GET", f"http://{http}/api/v1/events", timeout=20) as stream:
            chunks = stream.iter_text()
            next(chunks)
            os.kill(os.getpid(), signal.SIGTERM)
            seen.append(f"{len(list(chunks))} after closing")
    except BaseException as error:
        seen.append(repr(error))
        os.kill(os.getpid(), signal.SIGTERM)
        raise


def test_the_program_captures_and_serves_letters_and_ends_on_sigterm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen, users = list[str](), list[threading.Thread]()

    def announce(smtp: Endpoint, http: Endpoint) -> None:
        users.append(threading.Thread(target=use_until_closed, args=(smtp, http, seen)))
        users[0].start()

    monkeypatch.setattr(main, "log_ready", announce)
    settings(monkeypatch, smtp="127.0.0.1:0", http="127.0.0.1:0", database=str(tmp_path / "s.sqlite"))
    main.main()
    users[0].join(10)
    assert seen == ["Hello", "0 after closing"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"keep_letters": "0"}, "POSTROOM_SANDBOX_KEEP_LETTERS: Input should be greater"),
        ({"smtp": "nonsense"}, "POSTROOM_SANDBOX_SMTP: Value error, 'nonsense' is not host:port"),
        ({"database": "/dev/null/x"}, "POSTROOM_SANDBOX_DATABASE: cannot open it: [Errno"),
    ],
)
def test_an_invalid_setting_is_one_error_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: dict[str, str], message: str
) -> None:
    for name, value in {"database": "x", **given}.items():
        monkeypatch.setenv(f"POSTROOM_SANDBOX_{name.upper()}", value)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    output = capsys.readouterr().err
    assert message in output
    assert "Traceback" not in output


def test_a_port_in_use_is_one_error_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = f"127.0.0.1:{server.getsockname()[1]}"
        for kind in ("smtp", "http"):
            endpoints = {"smtp": "127.0.0.1:0", "http": "127.0.0.1:0", kind: taken}
            settings(monkeypatch, database=str(tmp_path / kind), **endpoints)
            with pytest.raises(SystemExit):
                main.main()
            assert taken.rpartition(":")[2] in capsys.readouterr().err
