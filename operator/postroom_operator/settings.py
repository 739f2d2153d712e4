"""What the operator is told by its environment: variables that begin with POSTROOM_.

What the settings come to: the part of manifests that they fix, and the way to the brokers.

The operator has a connections Secret of its own, of which it reads Kafka's half; it is read anew each time,
so that a rotated credential needs no restart. One that cannot be read leaves manifests as they were: while it
runs the operator remembers the brokers, and afterwards `Office.fixed_for` reads them from what it wrote.
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
    """`a,b` as two words; anything else is pydantic's to refuse."""
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    return value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
"""The type of a setting that is written `a,b,c`."""


class OperatorSettings(ProgramSettings):
    """The operator's settings, frozen once read."""

    image: str = Field(min_length=1, description="The image that workers and sandboxes run. Required.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="When the kubelet fetches that image."
    )
    image_pull_secrets: CommaSeparated = Field(
        default=(), description="Names of the Secrets to fetch it with, in each profile's namespace; a,b."
    )
    namespaces: CommaSeparated = Field(
        default=(), description="The namespaces to look after, a,b. Empty: all of the cluster."
    )
    connections: Path = Field(
        default=Path("/var/run/postroom/connections"),
        description="The folder with the operator's own Kafka connection, to make topics with: a Secret of "
        "the same keys as the workers'. Without it topics are not made.",
    )
    replication: int = Field(
        default=-1, ge=-1, description="Replicas of a topic that is made; -1 is the broker's default."
    )
    operator_http: EndpointSetting = Field(
        default=Endpoint("0.0.0.0", 8080),  # noqa: S104 - the kubelet and Prometheus come from outside
        description="Where /healthz, /readyz and /metrics are served, as host:port.",
    )
    pod: str = Field(
        default="",
        description="The name of the operator's pod, by which it holds the Lease. Empty: host and process.",
    )
    pod_namespace: str = Field(default="default", description="The operator's own namespace.")
    lease: str = Field(
        default="postroom-operator", description="The Lease that one operator at a time holds, there."
    )
    resync_seconds: float = Field(
        default=120.0, ge=1, description="How often everything is listed anew, whatever the watches said."
    )
    watch_seconds: int = Field(
        default=45,
        ge=3,
        description="How long one watch of the API server lasts; the next one follows on it. One that is "
        "silent for 5 s longer is given up: that long it takes to see through a line that died quietly.",
    )
    callback_allow: str = Field(
        default="",
        description="What callbacks of all profiles may reach beyond HTTPS to public addresses, a,b: a host, "
        "*.domain, an address or a range; http:// before one allows it without TLS as well.",
    )
    reconcilers: int = Field(default=8, ge=1, le=64, description="Profiles that are worked on at a time.")
    provers: int = Field(
        default=2,
        ge=1,
        le=16,
        description="Processes that prove templates, about 50 MB each; all but one end when there is nothing "
        "to prove.",
    )

    @field_validator("callback_allow")
    @classmethod
    def _an_allowlist(cls, value: str) -> str:
        read_allowlist(value)
        return value

    @property
    def holder(self) -> str:
        """By which name the Lease is held: one that no other living operator has."""
        return self.pod or f"{socket.gethostname()}-{os.getpid()}"


class SettingsAdapter:
    """The settings at work."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self._known = KafkaAccess()

    def defaults(self) -> OperatorDefaults:
        """What shows in every manifest."""
        told = self._settings
        with contextlib.suppress(Rejected):  # it is said where topics are made
            self._known = _kafka_access(self._kafka())
        return OperatorDefaults(
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
        return read_kafka(ConnectionsSecret(texts, folder, name))


def _kafka_access(kafka: KafkaConnection) -> KafkaAccess:
    return KafkaAccess(
        bootstrap_servers=kafka.bootstrap_servers,
        sasl_mechanism=cast("Any", kafka.mechanism or None),  # `read_kafka` lets no other through
        tls=kafka.protocol.endswith("SSL"),
        authority=kafka.ca_file is not None,
        client_certificate=kafka.certificate_file is not None,
    )
