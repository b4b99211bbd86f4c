"""Clusters of EKS, GKE and AKS: `eks()`, `gke()` and `aks()` make the `ClusterRef` of one.

    from kpo_multicluster.clouds import eks

    gpu = eks("gpu", region="us-east-2", conn_id="aws_remote", role_arn="arn:aws:iam::222222222222:role/airflow-pods")

Nothing is looked up here and no cloud SDK is imported: a DAG that names a cluster parses as fast as one that does not.
What contradicts itself is refused at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict
from urllib.parse import urlsplit

from kpo_multicluster.cluster import ClusterRef
from kpo_multicluster.errors import ConfigurationError

if TYPE_CHECKING:
    from typing_extensions import Unpack

_EKS_ARN = re.compile(r"arn:[\w-]+:eks:(?P<region>[\w-]+):\d{12}:cluster/(?P<name>[\w-]+)")
_ROLE_ARN = re.compile(r"arn:[\w-]+:iam::\d{12}:role/[\w+=,.@/-]+")
_GKE_PATH = re.compile(
    r"projects/(?P<project>[^/]+)/(?:locations|zones|regions)/(?P<location>[^/]+)/clusters/(?P<name>[^/]+)"
)
_AKS_ID = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.ContainerService/managedClusters/(?P<name>[^/]+)",
    re.IGNORECASE,
)
GKE_ENDPOINTS = ("public", "private", "dns", "connect-gateway")
AKS_ENDPOINTS = ("public", "private")
AKS_LOGINS = ("service-principal", "managed-identity", "workload-identity", "azure-cli", "default")
AZURE_CLOUDS = ("public", "china", "usgov")


class EksOptions(TypedDict, total=False):
    """What `eks()` takes beside the cluster's name; all are optional.

    Attributes:
        region: of the cluster; default that of the name, if it is an ARN, else of the connection or profile.
        conn_id: an Airflow connection of type `aws` whose credentials to use; default boto3's own chain (environment,
            IRSA, Pod Identity, instance role).
        profile: of the shared AWS configuration, in place of a connection.
        role_arn: a role to assume with those credentials. It is the one that needs access to the cluster.
        external_id: that the role's trust policy asks for.
        session_name: of the role's session; default `kpo-multicluster`.
        endpoint: https URL of the API server; with `ca_data`, it saves the right and the call to describe the cluster.
        ca_data: the CA of that API server, in PEM or base64 of it.
        sts_host: the STS host that tokens are signed for, in place of the region's own: its FIPS or dual-stack one.
        eks_endpoint_url: where to call EKS, such as a VPC endpoint.
        sts_endpoint_url: where to call STS. Tokens are never signed for this host, as no EKS cluster would take them.
        namespace: used when the task names none.
    """

    region: str | None
    conn_id: str | None
    profile: str | None
    role_arn: str | None
    external_id: str | None
    session_name: str | None
    endpoint: str | None
    ca_data: str | None
    sts_host: str | None
    eks_endpoint_url: str | None
    sts_endpoint_url: str | None
    namespace: str | None


class GkeOptions(TypedDict, total=False):
    """What `gke()` takes beside the cluster's name; all but `location` are optional.

    Attributes:
        location: region or zone of the cluster.
        project: of the cluster; default that of the connection or key.
        conn_id: an Airflow connection of type `google_cloud_platform` whose credentials to use; default Application
            Default Credentials (environment, workload identity, metadata server).
        key_file: path of a service account key, or of any other credential file of Google's, in place of a connection.
        key_json: `env:NAME` for a variable that holds such a file's content, or the content (sync runs only).
        credential_config_file: path of a workload identity federation configuration.
        impersonation_chain: service account to impersonate, or several, each of which may impersonate the next.
        quota_project: that calls of Google's APIs are charged to.
        endpoint: `public`, `private`, `dns`, `connect-gateway`, or the https URL of the API server, which saves the
            call to look it up; default the first of public, dns and private that the cluster has.
        ca_data: the CA of that URL, in PEM or base64 of it; none for a DNS endpoint.
        membership: of the fleet, as `projects/P/locations/L/memberships/M` with the project's number, which saves
            `connect-gateway` the look-up.
        api_endpoint: base URL of the GKE API.
        iam_endpoint: base URL of the IAM Credentials API, which impersonates.
        namespace: used when the task names none.
    """

    location: str | None
    project: str | None
    conn_id: str | None
    key_file: str | None
    key_json: str | None
    credential_config_file: str | None
    impersonation_chain: str | Sequence[str] | None
    quota_project: str | None
    endpoint: str | None
    ca_data: str | None
    membership: str | None
    api_endpoint: str | None
    iam_endpoint: str | None
    namespace: str | None


class AksOptions(TypedDict, total=False):
    """What `aks()` takes beside the cluster's name; all but `resource_group` and `subscription` are optional.

    Attributes:
        resource_group: of the cluster.
        subscription: its id; default that of the connection.
        conn_id: an Airflow connection of type `azure` whose credentials to use.
        login: `service-principal`, `managed-identity`, `workload-identity`, `azure-cli` or `default`
            (`DefaultAzureCredential`); default what the other options ask for, else `default`.
        tenant_id: of Microsoft Entra.
        client_id: of the service principal or managed identity.
        client_secret: `env:NAME` for a variable that holds the service principal's secret, or the secret (sync only).
        certificate_file: path of the service principal's certificate and key, PEM or PKCS12.
        certificate_password: `env:NAME` for a variable that holds its password, or the password (sync only).
        federated_token_file: path of the token of a workload identity; default `$AZURE_FEDERATED_TOKEN_FILE`.
        credential: `user` (default), or `admin` for the cluster's local administrator.
        endpoint: `public` or `private` name of the API server, or its https URL, which with `ca_data` saves the calls
            of Azure Resource Manager; default the cluster's own choice.
        ca_data: the CA of that URL, in PEM or base64 of it.
        server_id: application id of the AKS server in Entra; default the one of the cluster's own kubeconfig.
        cloud: `public` (default), `china` or `usgov`.
        authority_host: base URL of the login service, in place of the cloud's.
        arm_endpoint: base URL of Azure Resource Manager, in place of the cloud's.
        namespace: used when the task names none.
    """

    resource_group: str | None
    subscription: str | None
    conn_id: str | None
    login: str | None
    tenant_id: str | None
    client_id: str | None
    client_secret: str | None
    certificate_file: str | None
    certificate_password: str | None
    federated_token_file: str | None
    credential: str | None
    endpoint: str | None
    ca_data: str | None
    server_id: str | None
    cloud: str | None
    authority_host: str | None
    arm_endpoint: str | None
    namespace: str | None


def eks(cluster_name: str, **options: Unpack[EksOptions]) -> ClusterRef:
    """A cluster of Amazon EKS.

    Args:
        cluster_name: its name, or its ARN, which names the region as well.
        **options: see `EksOptions`.

    Raises:
        ConfigurationError: options contradict each other or are malformed.
        TypeError: an option is not known.
    """
    return _ref("eks", cluster_name, options, EksOptions, check_eks)


def gke(cluster_name: str, **options: Unpack[GkeOptions]) -> ClusterRef:
    """A cluster of Google Kubernetes Engine.

    Args:
        cluster_name: its name, or its path `projects/P/locations/L/clusters/C`.
        **options: see `GkeOptions`.

    Raises:
        ConfigurationError: options contradict each other or are malformed.
        TypeError: an option is not known.
    """
    return _ref("gke", cluster_name, options, GkeOptions, check_gke, inline=("key_json",))


def aks(cluster_name: str, **options: Unpack[AksOptions]) -> ClusterRef:
    """A cluster of Azure Kubernetes Service.

    Args:
        cluster_name: its name, or its resource id.
        **options: see `AksOptions`.

    Raises:
        ConfigurationError: options contradict each other or are malformed.
        TypeError: an option is not known.
    """
    return _ref("aks", cluster_name, options, AksOptions, check_aks, inline=("client_secret", "certificate_password"))


def _ref(
    kind: str,
    cluster_name: str,
    given: Mapping[str, Any],
    schema: type,
    check: Callable[[ClusterRef], None],
    inline: Sequence[str] = (),
) -> ClusterRef:
    unknown = sorted(set(given) - set(schema.__annotations__))
    if unknown:
        raise TypeError(
            f"{kind}() has no option {', '.join(unknown)}; it takes {', '.join(sorted(schema.__annotations__))}"
        )
    options = {"cluster_name": cluster_name, **given}
    namespace = options.pop("namespace", None)
    secrets = {
        name: options.pop(name)
        for name in inline
        if isinstance(options.get(name), str) and not options[name].startswith("env:")
    }
    if isinstance(options.get("impersonation_chain"), tuple):
        options["impersonation_chain"] = list(options["impersonation_chain"])
    ref = ClusterRef(kind, options, secrets, namespace)
    check(ref)
    return ref


class _Checker:
    """Looks for contradictions in a ref."""

    def __init__(self, ref: ClusterRef, schema: type) -> None:
        self.ref = ref
        self.given = {**ref.options, **ref.secrets}
        known = sorted((set(schema.__annotations__) - {"namespace"}) | {"cluster_name"})
        unknown = sorted(set(self.given) - set(known))
        if unknown:
            self.refuse(f"has the unknown option {', '.join(unknown)}; {ref.kind} takes {', '.join(known)}")
        for name, value in self.given.items():
            if not isinstance(value, str) and name != "impersonation_chain":
                self.refuse(f"needs text as {name}, not {type(value).__name__}")
        if not self.given.get("cluster_name"):
            self.refuse("names no cluster: give its cluster_name")

    def refuse(self, fault: str) -> None:
        raise ConfigurationError(f"The {self.ref.kind.upper()} cluster from {self.ref.source} {fault}.")

    def at_most_one(self, *names: str) -> None:
        given = [name for name in names if self.given.get(name)]
        if len(given) > 1:
            self.refuse(f"has {' and '.join(given)}, which name different credentials: drop all but one")

    def only_with(self, other: str, *names: str) -> None:
        for name in names:
            if self.given.get(name) and not self.given.get(other):
                self.refuse(f"has {name} without {other}: add {other}, or drop {name}")

    def one_of(self, name: str, choices: Sequence[str]) -> None:
        if self.given.get(name) and self.given[name] not in choices:
            self.refuse(f"has the {name} {self.given[name]!r}; it must be one of {', '.join(choices)}")

    def https(self, *names: str) -> None:
        for name in names:
            url = self.given.get(name)
            if url and not is_secure(url):
                self.refuse(f"needs an https URL as {name}, such as https://10.0.0.1")

    def agree(self, name: str, implied: str | None, by: str) -> None:
        if implied and self.given.get(name) and self.given[name] != implied:
            self.refuse(f"has the {name} {self.given[name]!r}, but {by} names {implied!r}: drop one of them")


def check_eks(ref: ClusterRef) -> None:
    """Refuses a ref of kind `eks` that cannot work.

    Raises:
        ConfigurationError: with what contradicts what.
    """
    check = _Checker(ref, EksOptions)
    check.at_most_one("conn_id", "profile")
    check.only_with("role_arn", "external_id", "session_name")
    check.only_with("endpoint", "ca_data")
    check.only_with("ca_data", "endpoint")
    check.https("endpoint", "eks_endpoint_url", "sts_endpoint_url")
    role = check.given.get("role_arn")
    if role and not _ROLE_ARN.fullmatch(role):
        check.refuse(f"has the role_arn {role!r}, which is not like arn:aws:iam::123456789012:role/name")
    _, region = eks_name(ref)
    check.agree("region", region, "the cluster's ARN")


def check_gke(ref: ClusterRef) -> None:
    """Refuses a ref of kind `gke` that cannot work.

    Raises:
        ConfigurationError: with what contradicts what.
    """
    check = _Checker(ref, GkeOptions)
    check.at_most_one("conn_id", "key_file", "key_json", "credential_config_file")
    check.https("api_endpoint", "iam_endpoint")
    chain = check.given.get("impersonation_chain", "x")
    if not (isinstance(chain, str) or (isinstance(chain, list) and all(isinstance(item, str) for item in chain))):
        check.refuse("needs a service account, or a list of them, as impersonation_chain")
    endpoint = check.given.get("endpoint") or ""
    if ":" in endpoint:
        check.https("endpoint")
    else:
        check.one_of("endpoint", (*GKE_ENDPOINTS, "an https URL"))
        if check.given.get("ca_data"):
            check.refuse("has ca_data without the URL it belongs to: give the URL as endpoint, or drop ca_data")
    if check.given.get("membership") and endpoint != "connect-gateway":
        check.refuse("has a membership but not endpoint='connect-gateway': add that, or drop the membership")
    project, location, _ = gke_path(ref)
    check.agree("project", project, "the cluster's path")
    check.agree("location", location, "the cluster's path")
    looked_up = not check.given.get("membership") and ":" not in endpoint
    if looked_up and not (location or check.given.get("location")):
        check.refuse("names no location: give the cluster's region or zone")


def check_aks(ref: ClusterRef) -> None:
    """Refuses a ref of kind `aks` that cannot work.

    Raises:
        ConfigurationError: with what contradicts what.
    """
    check = _Checker(ref, AksOptions)
    check.one_of("login", AKS_LOGINS)
    check.one_of("credential", ("user", "admin"))
    check.one_of("cloud", AZURE_CLOUDS)
    check.https("authority_host", "arm_endpoint")
    for name in ("login", "client_secret", "certificate_file", "federated_token_file", "tenant_id", "client_id"):
        check.at_most_one("conn_id", name)
    check.at_most_one("client_secret", "certificate_file", "federated_token_file")
    check.only_with("certificate_file", "certificate_password")
    login = check.given.get("login")
    for name, needs in _AKS_LOGIN_OF.items():
        if check.given.get(name) and login not in (None, needs):
            check.refuse(f"has {name}, which login={login!r} does not use: use login={needs!r}, or drop {name}")
    endpoint = check.given.get("endpoint") or ""
    if ":" in endpoint:
        check.https("endpoint")
        check.only_with("ca_data", "endpoint")
        if check.given.get("credential") == "admin":
            check.refuse("has credential='admin', which Azure has to hand out, and a URL as endpoint: drop one")
        return
    check.one_of("endpoint", (*AKS_ENDPOINTS, "an https URL"))
    if check.given.get("ca_data"):
        check.refuse("has ca_data without the URL it belongs to: give the URL as endpoint, or drop ca_data")
    subscription, group, _ = aks_id(ref)
    check.agree("subscription", subscription, "the cluster's resource id")
    check.agree("resource_group", group, "the cluster's resource id")
    if not (group or check.given.get("resource_group")):
        check.refuse("names no resource_group: give the cluster's")
    if not (subscription or check.given.get("subscription") or check.given.get("conn_id")):
        check.refuse("names no subscription: give its id")


_AKS_LOGIN_OF = {
    "client_secret": "service-principal",
    "certificate_file": "service-principal",
    "federated_token_file": "workload-identity",
}


def eks_name(ref: ClusterRef) -> tuple[str, str | None]:
    """Name of an EKS cluster, and the region that its ARN names if it is given as one."""
    match = _EKS_ARN.fullmatch(ref.options["cluster_name"])
    return (match["name"], match["region"]) if match else (ref.options["cluster_name"], None)


def gke_path(ref: ClusterRef) -> tuple[str | None, str | None, str]:
    """Project and location of a GKE cluster, if its path is given, and its name."""
    match = _GKE_PATH.fullmatch(ref.options["cluster_name"])
    return (match["project"], match["location"], match["name"]) if match else (None, None, ref.options["cluster_name"])


def aks_id(ref: ClusterRef) -> tuple[str | None, str | None, str]:
    """Subscription and resource group of an AKS cluster, if its resource id is given, and its name."""
    match = _AKS_ID.fullmatch(ref.options["cluster_name"])
    return (
        (match["subscription"], match["group"], match["name"]) if match else (None, None, ref.options["cluster_name"])
    )


def is_secure(url: str) -> bool:
    """Whether tokens may be sent to a URL: over https, or to an emulator on this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    # Plain http stays on this machine, where an emulator may listen.
    loopback = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and loopback))
