"""How to reach the API server: a pod's service account, or the developer's kubeconfig.

The client library reads both, including a token that is exchanged while we run (a pod's is good for an
hour) and the plugins of cloud providers. Raises Rejected when there is neither.
"""

import ssl
from pathlib import Path
from typing import Any

from kubernetes import config
from kubernetes.client import Configuration

from postroom.letter.problems import Code, Problem, Rejected


class Access:
    """Where the API server is, whom we trust, and who we are."""

    def __init__(self, configuration: Any) -> None:
        self._configuration = configuration
        self.server: str = configuration.host.rstrip("/")
        self.verify: bool = configuration.verify_ssl
        self.authority = _file(configuration.ssl_ca_cert)
        self.certificate = _file(configuration.cert_file)
        self.key = _file(configuration.key_file)

    def token(self) -> str | None:
        """The bearer token as it is now, read anew every minute; while it cannot be read, the one before."""
        known = self._configuration
        header: str | None
        try:
            header = known.get_api_key_with_prefix("BearerToken", "authorization")
        except (OSError, config.ConfigException):  # it is being written
            header = known.api_key.get("BearerToken", known.api_key.get("authorization"))
        return header.partition(" ")[2] if header else None

    def tls(self) -> ssl.SSLContext:
        """The context to connect with."""
        context = ssl.create_default_context(cafile=self.authority)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key)
        return context


def find_access() -> Access:
    """The service account where there is one, else the kubeconfig."""
    configuration = Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        try:
            config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            message = (
                f"leads to no cluster ({error}), and this is no pod with a service account. Set it to a "
                "kubeconfig that kubectl can use"
            )
            raise Rejected(Problem(Code.SETTING_MISSING, "KUBECONFIG", message)) from None
    return Access(configuration)


def _file(name: str | None) -> str | None:
    return name if name and Path(name).is_file() else None
