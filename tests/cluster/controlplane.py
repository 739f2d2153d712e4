"""A Kubernetes control plane without nodes: etcd, kube-apiserver and kube-controller-manager on loopback.

Real admission, CRDs with CEL, RBAC, server-side apply, watches, garbage collection, namespace deletion; no
kubelet, so that Pods are made and stay pending. Everything is in one folder. The API server may be stopped,
killed and started again on the same port; every request is in its audit log.
"""

import json
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import trustme

from tests.cluster.binaries import Binaries
from tests.cluster.program import ServerProcess, free_ports

CRDS = Path(__file__).parents[2] / "charts" / "postroom" / "files" / "crds"
READY_SECONDS = 120.0
CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "deployment-controller",
    "disruption-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
)
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {"level": "None", "userGroups": ["system:masters", "system:nodes"]},
        {"level": "None", "users": ["system:apiserver", "system:kube-controller-manager"]},
        {"level": "None", "nonResourceURLs": ["*"]},
        {"level": "Metadata"},
    ],
}


class KubectlError(Exception):
    """kubectl failed; the text is its own."""


@dataclass(frozen=True, slots=True)
class Account:
    """A ServiceAccount with its token."""

    user: str
    """The name in the audit log: `system:serviceaccount:NAMESPACE:NAME`."""
    kubeconfig: Path
    token: str


class ControlPlane:
    """A cluster. `kubeconfig` and `api` are those of an administrator."""

    def __init__(self, folder: Path, binaries: Binaries) -> None:
        self.folder = folder
        self.binaries = binaries
        self.port, client, peer = free_ports(3)
        self._token = token_hex(16)
        self._clients: list[httpx.Client] = []
        self._certificates()
        (folder / "tokens.csv").write_text(f"{self._token},admin,admin,system:masters\n")
        (folder / "audit.json").write_text(json.dumps(AUDIT_POLICY))
        self.kubeconfig = self.write_kubeconfig("admin", self._token)
        self.api = self.client(self._token)
        self.etcd = ServerProcess("etcd", self._etcd_command(client, peer), folder)
        self.apiserver = ServerProcess("kube-apiserver", self._apiserver_command(client), folder)
        self.controllers = ServerProcess("kube-controller-manager", self._controllers_command(), folder)

    @property
    def server(self) -> str:
        """The API server's address."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def authority(self) -> Path:
        """The certificate authority of the API server."""
        return self.folder / "ca.crt"

    def start(self) -> None:
        """Start all programs; return when the CRDs are served and the controllers run."""
        self.etcd.start()
        self.start_apiserver()
        # before the controllers, because the garbage collector discovers new kinds every 30 s
        self.kubectl("apply", "--server-side", "-f", str(CRDS))
        self.kubectl("wait", "--for=condition=Established", "crd", "--all")
        self.controllers.start()
        self.until(lambda: self.api.get("/api/v1/namespaces/default/serviceaccounts/default").is_success)

    def stop(self) -> None:
        """End all programs."""
        for client in self._clients:
            client.close()
        for program in (self.controllers, self.apiserver, self.etcd):
            program.stop()

    def start_apiserver(self) -> None:
        """Start the API server with etcd's content; return when it is ready."""
        self.apiserver.start()
        self.until(lambda: self.api.get("/readyz").is_success)

    def restart_apiserver(self) -> None:
        """Kill the API server and start it again: every watch breaks."""
        self.apiserver.kill()
        self.start_apiserver()

    def until(self, true: Callable[[], Any], within: float = READY_SECONDS) -> None:
        """Return when `true()` holds; while the API server does not answer it does not hold."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            try:
                if true():
                    return
            except httpx.TransportError:
                for program in (self.etcd, self.apiserver):
                    if not program.running:
                        raise RuntimeError(f"{program.name} ended:\n{program.tail()}") from None
            time.sleep(0.05)
        raise AssertionError(f"not within {within:.0f} s; the logs are in {self.folder}")

    def kubectl(self, *arguments: str, stdin: Any = None, account: Account | None = None) -> str:
        """The output of kubectl; `stdin` is an object, or a list of objects, for `-f -`. Raises
        KubectlError."""
        kubeconfig = account.kubeconfig if account else self.kubeconfig
        objects = stdin if isinstance(stdin, list) else [stdin] if stdin else []
        done = subprocess.run(
            [self.binaries.kubectl, f"--kubeconfig={kubeconfig}", *arguments],
            input="\n---\n".join(map(json.dumps, objects)),
            env={"HOME": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise KubectlError(done.stderr.strip())
        return done.stdout

    def create(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        """POST an object as an administrator; much faster than kubectl."""
        found: dict[str, Any] = self.api.post(path, json=manifest).raise_for_status().json()
        return found

    def client(self, token: str) -> httpx.Client:
        """A client with a token, for requests that are slow with kubectl."""
        trust = ssl.create_default_context(cafile=self.authority)
        bearer = {"Authorization": f"Bearer {token}"}
        client = httpx.Client(base_url=self.server, headers=bearer, verify=trust, timeout=60.0)
        self._clients.append(client)
        return client

    def account(self, namespace: str, name: str) -> Account:
        """A new ServiceAccount with a token for a day; it has no rights until a role is bound to it."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        self.create(path, {"metadata": {"name": name}})
        day = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 86400},
        }
        token = self.create(f"{path}/{name}/token", day)["status"]["token"]
        kubeconfig = self.write_kubeconfig(f"{namespace}-{name}", token)
        return Account(f"system:serviceaccount:{namespace}:{name}", kubeconfig, token)

    def requests(self, user: str, *verbs: str) -> Iterator[dict[str, Any]]:
        """The audit log of a user's requests, oldest first, without those of administrators."""
        for line in (self.folder / "audit.log").read_text().splitlines():
            event: dict[str, Any] = json.loads(line)
            if event["user"]["username"] == user and (not verbs or event["verb"] in verbs):
                yield event

    def write_kubeconfig(self, name: str, token: str, server: str = "") -> Path:
        """A kubeconfig with a token; `server` where it is not the API server itself."""
        path = self.folder / f"{name}.kubeconfig"
        cluster = {"server": server or self.server, "certificate-authority": str(self.authority)}
        text = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        }
        path.write_text(json.dumps(text))
        path.chmod(0o600)
        return path

    def _certificates(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.authority)
        serving = authority.issue_cert("127.0.0.1", "localhost")
        serving.cert_chain_pems[0].write_to_path(self.folder / "apiserver.crt")
        serving.private_key_pem.write_to_path(self.folder / "apiserver.key")
        authority.issue_cert("accounts").private_key_pem.write_to_path(self.folder / "accounts.key")

    def _etcd_command(self, client: int, peer: int) -> list[str]:
        address = f"http://127.0.0.1:{client}"
        return [
            str(self.binaries.etcd),
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",
            "--log-level=error",
            f"--listen-client-urls={address}",
            f"--advertise-client-urls={address}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
        ]

    def _apiserver_command(self, etcd: int) -> list[str]:
        key = self.folder / "accounts.key"
        return [
            str(self.binaries.kube_apiserver),
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            f"--tls-cert-file={self.folder / 'apiserver.crt'}",
            f"--tls-private-key-file={self.folder / 'apiserver.key'}",
            "--authorization-mode=RBAC",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",
            f"--audit-policy-file={self.folder / 'audit.json'}",
            f"--audit-log-path={self.folder / 'audit.log'}",
        ]

    def _controllers_command(self) -> list[str]:
        return [
            str(self.binaries.kube_controller_manager),
            f"--kubeconfig={self.kubeconfig}",
            f"--service-account-private-key-file={self.folder / 'accounts.key'}",
            f"--root-ca-file={self.authority}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--secure-port=0",
            f"--controllers={','.join(CONTROLLERS)}",
        ]
