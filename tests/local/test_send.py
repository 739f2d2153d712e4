"""`postroom send`: data from the command line, and errors with a remedy."""

import json
from pathlib import Path

import pytest

from postroom.local import http_client, send
from postroom.local.data_folder import DataFolder, RunAddresses
from postroom.local.errors import UserError
from postroom.local.http_client import HttpResponse, RequestFailed
from postroom.local.machine import free_port
from postroom.local.send import gather_data, parse_pair, remedy_for, send_message


@pytest.mark.parametrize(
    ("pair", "name", "value"),
    [
        ("name=Mira", "name", "Mira"),
        ("name=", "name", ""),
        ("equation=a=b", "equation", "a=b"),
        ("count:=3", "count", 3),
        ('items:=[{"a": 1}]', "items", [{"a": 1}]),
        ("url=https://example.org/?a=b:=c", "url", "https://example.org/?a=b:=c"),
    ],
)
def test_a_pair_is_text_or_json(pair: str, name: str, value: object) -> None:
    assert parse_pair(pair) == (name, value)


@pytest.mark.parametrize("pair", ["name", "=x", ":=3", "count:=three"])
def test_an_invalid_pair_is_an_error_with_a_remedy(pair: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_pair(pair)
    assert raised.value.remedy


def test_pairs_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"name": "Ada", "age": 3}')
    assert gather_data(["name=Mira"], tmp_path / "data.json") == {"name": "Mira", "age": 3}


@pytest.mark.parametrize("text", [None, "{", "[1]"])
def test_a_file_that_is_not_a_json_object_is_an_error(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "data.json").write_text(text)
    with pytest.raises(UserError, match=r"data\.json"):
        gather_data([], tmp_path / "data.json")


def test_without_a_run_the_error_names_postroom_up(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No `postroom up` runs") as raised:
        send_message({}, None, tmp_path)
    assert "postroom up" in raised.value.remedy


def test_a_run_that_has_ended_is_an_error(tmp_path: Path) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    folder = DataFolder(tmp_path)
    folder.write_addresses(RunAddresses(1, "b", gone, "http://inbox", "s", "m"))
    with pytest.raises(UserError, match="does not answer"):
        send_message({}, None, tmp_path)


def test_a_rejected_message_lists_its_problems_by_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [{"pointer": "/data/name", "detail": "is required", "code": "variable_missing"}]
    monkeypatch.setattr(http_client, "post", lambda *_: HttpResponse(422, {"errors": errors}))
    with pytest.raises(UserError, match=r"/data/name: is required \(variable_missing\)"):
        send_message({}, "http://127.0.0.1:1", tmp_path)


@pytest.mark.parametrize(
    ("pointer", "code", "detail", "remedy"),
    [
        ("/data/code", "variable_missing", "`code` is required and absent", "add code=…"),
        ("/data/shop/name", "variable_missing", "`name` is required", "write shop as JSON: shop:=…"),
        (
            "/data/letters",
            "variable_invalid",
            '"3" is not of type "integer"',
            "for a number write letters:=3",
        ),
        ("/data/code", "variable_invalid", 'the value is not of type "string"', "for text write code=…"),
        ("/data/on", "variable_invalid", '"x" is not of type "boolean"', "for a boolean write on:=true"),
        ("/data/code", "variable_invalid", '"x" does not match "^[0-9]+$"', ""),
        ("/recipient", "address_invalid", "is no address", ""),
    ],
)
def test_a_problem_has_a_remedy_for_the_command_line(
    pointer: str, code: str, detail: str, remedy: str
) -> None:
    assert remedy_for({"pointer": pointer, "code": code, "detail": detail}) == remedy


def test_an_id_that_the_ledger_has_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "_existing_states", lambda *_: {"shop": "captured"})
    monkeypatch.setattr(http_client, "post", lambda *_: HttpResponse(202, {"id": "x1", "profile": "shop"}))
    DataFolder(tmp_path).write_addresses(RunAddresses(1, "b", "http://g", "http://inbox", "s", "m"))
    assert send_message({"message_id": "x1"}, None, tmp_path).existing_state == "captured"
    assert send_message({"message_id": "x1"}, "http://elsewhere", tmp_path).existing_state is None


def test_the_profile_is_a_query_parameter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls: list[str] = []

    def post(url: str, _: object) -> HttpResponse:
        urls.append(url)
        return HttpResponse(202, {"id": "m-1", "profile": "crm"})

    monkeypatch.setattr(http_client, "post", post)
    accepted = send_message({}, "http://127.0.0.1:1/", tmp_path, "crm")
    assert urls == ["http://127.0.0.1:1/v1/messages?profile=crm"]
    assert (accepted.id, accepted.profile, accepted.inbox) == ("m-1", "crm", None)


def test_a_response_without_json_is_still_a_response() -> None:
    assert http_client._json(b"<html>") is None
    assert HttpResponse(502, None).detail == "HTTP 502"
    assert json.loads('{"detail": "no"}') == {"detail": "no"}
    with pytest.raises(RequestFailed):
        http_client.get(f"http://127.0.0.1:{free_port()}/")
