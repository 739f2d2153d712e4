"""The operator's settings, from environment variables that begin with POSTROOM_, and what is derived from
them.

`SettingsAdapter` derives the part of all manifests that the settings fix, and the way to the brokers. The
operator has a connections Secret of its own and uses Kafka's half of it. The Secret is read each time, so
that a rotated credential needs no restart. While it cannot be read manifests stay as they are: the running
operator remembers the brokers, and after a restart `ReconcileContext.defaults_for` reads them from what the
operator wrote.
"""

import contextlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, field_validator
from pydantic_settings import NoDecode

from postroom.connections import ConnectionsSecret, KafkaConnection, read_kafka
from postroom.http.endpoint import Endpoint, EndpointSetting
from postroom.letter.allowlist import read_allowlist
from postroom.letter.problems import Code, Problem, Rejected
from postroom.secret_files import read_folder
from postroom.startup import ProgramSettings
from postroom_operator.desired.inputs import KafkaAccess, OperatorDefaults


def _split_commas(value: object) -> object:
    """Split `a,b` into two words; pydantic rejects anything but text."""
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    return value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
"""The type of a setting that is written as `a,b,c`."""


class OperatorSettings(ProgramSettings):
    """The operator's settings, frozen once read."""

    image: str = Field(min_length=1, description="The image that workers and sandboxes run. Required.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="When the kubelet fetches that image."
    )
    image_pull_secrets: CommaSeparated = Field(
        default=(), description="Names of the image pull Secrets in each profile's namespace; a,b."
    )
    namespaces: CommaSeparated = Field(
        default=(), description="The namespaces that the operator manages, a,b. Empty: all."
    )
    connections: Path = Field(
        default=Path("/var/run/postroom/connections"),
        description="The folder with the operator's own Kafka connection, which it creates topics with: a "
        "Secret with the same keys as the workers'. Without it no topics are created.",
    )
    replication: int = Field(
        default=-1,
        ge=-1,
        description="Replicas of a topic that the operator creates; -1 is the broker's default.",
    )
    operator_http: EndpointSetting = Field(
        default=Endpoint("0.0.0.0", 8080),  # noqa: S104 - the kubelet and Prometheus come from outside
        description="The address of /healthz, /readyz and /metrics, as host:port.",
    )
    pod: str = Field(
        default="",
        description="The name of the operator's pod, which holds the Lease. Empty: host name and process id.",
    )
    pod_namespace: str = Field(default="default", description="The operator's own namespace.")
    lease: str = Field(
        default="postroom-operator",
        description="The Lease in that namespace that one operator at a time holds.",
    )
    resync_seconds: float = Field(
        default=120.0,
        ge=1,
        description="The interval at which everything is listed again, whatever the watches reported.",
    )
    watch_seconds: int = Field(
        default=45,
        ge=3,
        description="The duration of one watch request to the API server; the next continues where it ended. "
        "A watch that is silent for 5 s longer is closed: a dead connection is noticed after that time.",
    )
    callback_allow: str = Field(
        default="",
        description="Destinations of all profiles' callbacks that are allowed besides HTTPS to public "
        "addresses, a,b: a host, *.domain, an address or a range; with the prefix http:// also without TLS.",
    )
    reconcilers: int = Field(default=8, ge=1, le=64, description="Profiles that are reconciled at a time.")
    validators: int = Field(
        default=2,
        ge=1,
        le=16,
        description="Processes that validate templates, about 50 MB each; all but one end while there is "
        "nothing to validate.",
    )

    @field_validator("callback_allow")
    @classmethod
    def _check_allowlist(cls, value: str) -> str:
        read_allowlist(value)
        return value

    @property
    def holder(self) -> str:
        """The identity in the Lease: no other running operator has it."""
        return self.pod or f"{socket.gethostname()}-{os.getpid()}"


class SettingsAdapter:
    """Derives the defaults of manifests and the Kafka connection from the settings."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self._kafka_access = KafkaAccess()
        """As it was last read."""

    def defaults(self) -> OperatorDefaults:
        """The part of every manifest that the settings fix."""
        settings = self._settings
        with contextlib.suppress(Rejected):  # the TopicManager reports it
            self._kafka_access = _kafka_access(self._kafka())
        return OperatorDefaults(
            settings.image,
            settings.image_pull_policy,
            settings.image_pull_secrets,
            self._kafka_access,
            settings.callback_allow,
        )

    def connect(self) -> Mapping[str, Any]:
        """The settings of the admin client; raises Rejected with what is missing."""
        return self._kafka().client_settings()

    def _kafka(self) -> KafkaConnection:
        folder = self._settings.connections
        name = f"the operator's own Secret at {folder}"
        try:
            texts = read_folder(folder)
        except OSError as error:
            message = f"cannot be read ({error}); let the operator's user read it"
            raise Rejected(Problem(Code.SECRET_INVALID, name, message)) from error
        return read_kafka(ConnectionsSecret(texts, folder, name))


def _kafka_access(kafka: KafkaConnection) -> KafkaAccess:
    return KafkaAccess(
        bootstrap_servers=kafka.bootstrap_servers,
        sasl_mechanism=cast("Any", kafka.mechanism or None),  # `read_kafka` accepts no other
        tls=kafka.protocol.endswith("SSL"),
        authority=kafka.ca_file is not None,
        client_certificate=kafka.certificate_file is not None,
    )
