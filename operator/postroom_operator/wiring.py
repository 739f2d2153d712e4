"""What the settings come to: the part of manifests that they fix, and the way to the brokers.

The operator has a connections Secret of its own, of which it reads Kafka's half; it is read anew each time,
so that a rotated credential needs no restart. One that cannot be read leaves manifests as they were: while it
runs the operator remembers the brokers, and afterwards `Office.fixed_for` reads them from what it wrote.
"""

import contextlib
from collections.abc import Mapping
from typing import Any, cast

from postroom.connections import KafkaConnection, Mounted, read_kafka
from postroom.letter.problems import Code, Problem, Rejected
from postroom.mounted import read_folder
from postroom_operator.desired.view import Fixed, KafkaAccess
from postroom_operator.settings import OperatorSettings


class Wiring:
    """The settings at work."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self._known = KafkaAccess()

    def fixed(self) -> Fixed:
        """What shows in every manifest."""
        told = self._settings
        with contextlib.suppress(Rejected):  # it is said where topics are made
            self._known = _access(self._kafka())
        return Fixed(
            told.image, told.image_pull_policy, told.image_pull_secrets, self._known, told.callback_allow
        )

    def connect(self) -> Mapping[str, Any]:
        """The settings of the admin client; raises Rejected that says what is missing."""
        return self._kafka().client_settings()

    def _kafka(self) -> KafkaConnection:
        folder = self._settings.connections
        name = f"the operator's own Secret at {folder}"
        try:
            texts = read_folder(folder)
        except OSError as error:
            message = f"cannot be read ({error}); let the operator's user read it"
            raise Rejected(Problem(Code.SECRET_INVALID, name, message)) from error
        return read_kafka(Mounted(texts, folder, name))


def _access(kafka: KafkaConnection) -> KafkaAccess:
    return KafkaAccess(
        bootstrap_servers=kafka.bootstrap_servers,
        sasl_mechanism=cast("Any", kafka.mechanism or None),  # `read_kafka` lets no other through
        tls=kafka.protocol.endswith("SSL"),
        authority=kafka.ca_file is not None,
        client_certificate=kafka.certificate_file is not None,
    )
