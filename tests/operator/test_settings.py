from pathlib import Path

import pytest

from postroom.letter.problems import Rejected
from postroom_operator.settings import OperatorSettings, SettingsAdapter


def wired(folder: Path, **texts: str) -> SettingsAdapter:
    folder.mkdir(exist_ok=True)
    for key, text in texts.items():
        (folder / key.replace("_", "-")).write_text(text)
    return SettingsAdapter(OperatorSettings(image="postroom:1", connections=folder))


def test_the_brokers_are_known_from_the_operators_own_secret(tmp_path: Path) -> None:
    wiring = wired(tmp_path, kafka_bootstrap_servers="kafka:9095\n")
    assert wiring.connect()["bootstrap.servers"] == "kafka:9095"
    assert wiring.defaults().kafka.bootstrap_servers == "kafka:9095"


def test_an_unreadable_secret_stops_nothing_and_leaves_manifests_as_they_are(tmp_path: Path) -> None:
    wiring = wired(tmp_path, kafka_bootstrap_servers="kafka:9095")
    assert wiring.defaults().kafka.bootstrap_servers == "kafka:9095"
    (tmp_path / "kafka-ca.crt").symlink_to(tmp_path / "not-there-yet")
    with pytest.raises(Rejected, match="cannot be read") as rejected:
        wiring.connect()
    assert str(tmp_path) in str(rejected.value)
    assert wiring.defaults().kafka.bootstrap_servers == "kafka:9095"


def test_a_missing_secret_is_reported_with_the_keys_that_it_needs(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="kafka-bootstrap-servers"):
        wired(tmp_path / "none").connect()
