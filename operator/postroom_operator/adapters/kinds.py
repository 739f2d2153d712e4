"""Where the API server keeps each kind of object that the operator touches."""

from postroom_operator.cluster import API_VERSION, Kind, Ref

PLURALS = {
    Kind(API_VERSION, "EmailTemplate"): "emailtemplates",
    Kind(API_VERSION, "EmailLayout"): "emaillayouts",
    Kind(API_VERSION, "SmtpProfile"): "smtpprofiles",
    Kind("v1", "Namespace"): "namespaces",
    Kind("v1", "ConfigMap"): "configmaps",
    Kind("v1", "Service"): "services",
    Kind("v1", "Pod"): "pods",
    Kind("events.k8s.io/v1", "Event"): "events",
    Kind("apps/v1", "Deployment"): "deployments",
    Kind("networking.k8s.io/v1", "NetworkPolicy"): "networkpolicies",
    Kind("policy/v1", "PodDisruptionBudget"): "poddisruptionbudgets",
    Kind("coordination.k8s.io/v1", "Lease"): "leases",
    Kind("keda.sh/v1alpha1", "ScaledObject"): "scaledobjects",
    Kind("keda.sh/v1alpha1", "TriggerAuthentication"): "triggerauthentications",
}


def root(api_version: str) -> str:
    """The path of a group and version: `/apis/apps/v1`."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def collection(kind: Kind, namespace: str) -> str:
    """The path of a kind's objects in a namespace, or in all with `""`."""
    place = f"/namespaces/{namespace}" if namespace else ""
    return f"{root(kind.api_version)}{place}/{PLURALS[kind]}"


def item(ref: Ref) -> str:
    """The path of one object."""
    return f"{collection(Kind(ref.api_version, ref.kind), ref.namespace)}/{ref.name}"
