"""Container health check: `python -m postroom.healthcheck` exits with 0 when /healthz returns 200, else 1.

For container engines without HTTP probes (the image's HEALTHCHECK). The image contains several programs with
different ports, and a container runs one of them; so each configured endpoint is tried.
"""

import sys
import urllib.request

from pydantic_settings import BaseSettings, SettingsConfigDict

from postroom.http.endpoint import Endpoint, EndpointSetting

TIMEOUT_SECONDS = 2.0
"""Time limit for a response; the engine's own limit is three seconds."""


class HealthEndpoints(BaseSettings):
    """The endpoint of each program, from the variables that the programs read."""

    model_config = SettingsConfigDict(env_prefix="POSTROOM_", frozen=True)

    http: EndpointSetting = Endpoint("127.0.0.1", 9464)
    operator_http: EndpointSetting = Endpoint("127.0.0.1", 8080)
    gateway_http: EndpointSetting = Endpoint("127.0.0.1", 8080)
    sandbox_http: EndpointSetting = Endpoint("127.0.0.1", 8025)
    bounces_http: EndpointSetting = Endpoint("127.0.0.1", 9465)


def is_healthy(endpoint: Endpoint) -> bool:
    """Whether /healthz returns 200; an endpoint on all interfaces is queried on loopback."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(endpoint.host, endpoint.host)  # noqa: S104
    url = f"http://{Endpoint(host, endpoint.port)}/healthz"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def main() -> int:
    """Return 0 when an endpoint is healthy, otherwise 1."""
    return 0 if any(is_healthy(endpoint) for endpoint in set(HealthEndpoints().__dict__.values())) else 1


if __name__ == "__main__":
    sys.exit(main())
