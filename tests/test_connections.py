"""The connections Secret: the settings from its keys, and the problems of invalid keys."""

from pathlib import Path

import pytest

from postroom.connections import ConnectionsSecret, default_schema, read_connections, read_kafka
from postroom.letter.problems import Code, Rejected
from postroom.secret_files import read_folder

FOLDER = Path("/var/run/postroom/connections")
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
PLAIN = {"kafka-bootstrap-servers": "kafka:9092\n", "ledger-url": "postgresql://post:s3cr3t@db:5432/post"}
SASL = {
    "kafka-security-protocol": "SASL_SSL",
    "kafka-sasl-mechanism": "SCRAM-SHA-512",
    "kafka-username": "worker",
    "kafka-password": "pass word \n",
}


def secret(texts: dict[str, str]) -> ConnectionsSecret:
    return ConnectionsSecret(texts, FOLDER, "Secret shop/postroom-connections")


def refusal(texts: dict[str, str]) -> Rejected:
    with pytest.raises(Rejected) as refused:
        read_connections(secret(texts), "shop")
    return refused.value


def test_the_two_required_keys_are_enough() -> None:
    found = read_connections(secret(PLAIN), "team-a")
    assert found.kafka.client_settings() == {
        "bootstrap.servers": "kafka:9092",
        "security.protocol": "PLAINTEXT",
    }
    assert (found.ledger.url, found.ledger.schema) == (PLAIN["ledger-url"], "postroom_team_a")


def test_encryption_and_credentials_become_settings_of_the_client() -> None:
    texts = PLAIN | SASL | {"kafka-ca.crt": PEM, "kafka-tls.crt": PEM, "kafka-tls.key": PEM}
    assert read_connections(secret(texts), "shop").kafka.client_settings() == {
        "bootstrap.servers": "kafka:9092",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "worker",
        "sasl.password": "pass word ",
        "ssl.ca.location": "/var/run/postroom/connections/kafka-ca.crt",
        "ssl.certificate.location": "/var/run/postroom/connections/kafka-tls.crt",
        "ssl.key.location": "/var/run/postroom/connections/kafka-tls.key",
    }


def test_the_keys_of_kafka_are_read_without_a_ledger() -> None:
    assert read_kafka(secret({"kafka-bootstrap-servers": "a:1, [::1]:2,"})).bootstrap_servers == "a:1,[::1]:2"


@pytest.mark.parametrize("texts", [{}, {"kafka-bootstrap-servers": " \n"}])
def test_a_missing_secret_is_a_single_problem_with_the_keys_to_create(texts: dict[str, str]) -> None:
    refused = refusal(texts)
    message = "is not there, or is empty. Create it with the keys kafka-bootstrap-servers, ledger-url"
    assert str(refused) == f"Secret shop/postroom-connections: {message} (secret_missing)"


@pytest.mark.parametrize(
    ("change", "key", "code", "expected"),
    [
        (
            {"kafka-bootstrap-servers": ""},
            "kafka-bootstrap-servers",
            Code.SECRET_KEY_MISSING,
            "is not in Secret",
        ),
        ({"kafka-bootstrap-servers": "a:1,b"}, "kafka-bootstrap-servers", Code.SECRET_INVALID, "entry 2"),
        ({"kafka-security-protocol": "TLS"}, "kafka-security-protocol", Code.SECRET_INVALID, "SASL_SSL"),
        ({"kafka-password": "s3cr3t"}, "kafka-password", Code.SECRET_INVALID, "SASL_SSL"),
        ({"kafka-ca.crt": PEM}, "kafka-ca.crt", Code.SECRET_INVALID, "not encrypted"),
        (SASL | {"kafka-username": ""}, "kafka-username", Code.SECRET_KEY_MISSING, "Add the key"),
        (
            SASL | {"kafka-sasl-mechanism": "GSSAPI"},
            "kafka-sasl-mechanism",
            Code.SECRET_INVALID,
            "is none of",
        ),
        (SASL | {"kafka-ca.crt": "s3cr3t"}, "kafka-ca.crt", Code.SECRET_INVALID, "PEM"),
        (SASL | {"kafka-tls.crt": PEM}, "kafka-tls.key", Code.SECRET_KEY_MISSING, "remove kafka-tls.crt"),
        ({"ledger-url": ""}, "ledger-url", Code.SECRET_KEY_MISSING, "postgresql://user"),
        (
            {"ledger-url": "mysql://u:s3cr3t@h/d"},
            "ledger-url",
            Code.SECRET_INVALID,
            "begin with postgresql://",
        ),
        ({"ledger-url": "postgresql:///d?s3cr3t"}, "ledger-url", Code.SECRET_INVALID, "has no host"),
        ({"ledger-url": "postgresql://u:s3cr3t@h"}, "ledger-url", Code.SECRET_INVALID, "has no database"),
        ({"ledger-url": "postgresql://u:s3c/r3t@h/d"}, "ledger-url", Code.SECRET_INVALID, "cannot be read"),
        ({"ledger-schema": "Post-Room"}, "ledger-schema", Code.SECRET_INVALID, "lower-case"),
    ],
)
def test_a_wrong_key_is_named_with_its_rule_and_never_with_its_value(
    change: dict[str, str], key: str, code: Code, expected: str
) -> None:
    (problem,) = refusal(PLAIN | change).problems
    assert (problem.field, problem.code) == (key, code)
    assert expected in problem.message
    assert "Secret shop/postroom-connections" in problem.message
    assert "s3cr3t" not in str(problem)
    assert "r3t" not in str(problem)


def test_all_problems_are_reported_at_once() -> None:
    found = refusal({"kafka-security-protocol": "SASL_SSL"}).problems
    assert [problem.field for problem in found] == [
        "kafka-bootstrap-servers",
        "kafka-sasl-mechanism",
        "kafka-username",
        "kafka-password",
        "ledger-url",
    ]


def test_no_repr_contains_a_password() -> None:
    texts = PLAIN | SASL | {"kafka-password": "s3cr3t"}
    assert "s3cr3t" not in f"{secret(texts)} {read_connections(secret(texts), 'shop')}"


def test_long_namespaces_have_distinct_schemas() -> None:
    one, other = default_schema("a" * 62 + "b"), default_schema("a" * 62 + "c")
    assert len(one) == len(other) == 63
    assert one != other


def test_a_missing_folder_is_an_empty_secret(tmp_path: Path) -> None:
    assert read_folder(tmp_path / "nowhere") == {}


def test_files_are_read_from_the_current_folder_of_the_kubelet(tmp_path: Path) -> None:
    for generation, user in (("..2026_1", "old"), ("..2026_2", "new")):
        (tmp_path / generation).mkdir()
        (tmp_path / generation / "kafka-username").write_text(user)
    (tmp_path / "kafka-username").symlink_to("..data/kafka-username")
    (tmp_path / "..data").symlink_to("..2026_2")
    assert read_folder(tmp_path) == {"kafka-username": "new"}
