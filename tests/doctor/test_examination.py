"""Each thing that can be in the way to a cluster is told by the step that meets it, on real sockets."""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import trustme

from kpo_multicluster.auth.access import ClusterAccess
from kpo_multicluster.auth.connections import CloudConnection
from kpo_multicluster.cluster import ClusterRef, kubeconfig
from kpo_multicluster.doctor import examination as examining
from kpo_multicluster.doctor.examination import Subject, examine
from kpo_multicluster.doctor.report import STEPS, Examination, Outcome, Step
from kpo_multicluster.errors import ConfigurationError
from kpo_multicluster.testing import Rule, User
from kpo_multicluster.testing.cluster import EmbeddedCluster

from .servers import closed_port, proxy, serving, silence, tls_server

ByToken = Callable[..., ClusterRef]
Look = Callable[..., Examination]


def failing(found: Examination, name: str) -> Step:
    """The step that failed: the one of that name, after which none was reached."""
    assert not found.well
    step = found.first_failure
    assert step is not None, str(found)
    assert step.name == name, str(found)
    assert tuple(step.name for step in found.steps) == STEPS
    later = found.steps[STEPS.index(name) + 1 :]
    assert all(step.outcome is Outcome.NOT_REACHED and not step.found for step in later)
    return step


def leaf(ca: trustme.CA, **options: Any) -> trustme.LeafCert:
    return ca.issue_cert("127.0.0.1", **options)


# -- a cluster that is well ------------------------------------------------------------------------------------------


def test_all_is_well(cluster: EmbeddedCluster, by_token: ByToken, look: Look) -> None:
    found = look(by_token())
    assert found.well
    assert {step.name: step.outcome for step in found.steps} == dict.fromkeys(STEPS, Outcome.OK), str(found)
    assert found.step("connection").found == "given by the test"
    assert "a token from the test" in found.step("credentials").found
    assert f"{cluster.server.removeprefix('https://')} takes connections" in found.step("endpoint").found
    assert "is trusted, until" in found.step("tls").found
    assert (
        f"at {cluster.server} answers, and knows us as admin, of the groups system:m"
        in found.step("authentication").found
    )
    assert found.step("permissions").found == "All that runs of pods need in the namespace 'default'."
    written = json.loads(json.dumps(found.as_json()))
    assert written["well"] is True
    assert written["cluster"] == {"kind": "token", "options": {"server": cluster.server}, "source": "the test"}
    assert [step["name"] for step in written["steps"]] == list(STEPS)
    assert all(step["seconds"] >= 0 for step in written["steps"])


def test_a_client_certificate(cluster: EmbeddedCluster, look: Look) -> None:
    found = look(kubeconfig(document=cluster.kubeconfig(certificate=True)))
    assert found.well
    assert "a client certificate, until 2" in found.step("credentials").found


def test_a_certificate_that_is_not_verified(by_token: ByToken, look: Look) -> None:
    found = look(by_token(insecure_skip_tls_verify=True))
    assert found.well
    assert found.step("tls").outcome is Outcome.WARNING
    assert "not verified" in found.step("tls").found


def test_a_name_that_is_resolved(cluster: EmbeddedCluster, by_token: ByToken, look: Look) -> None:
    found = look(by_token(server=cluster.server.replace("127.0.0.1", "localhost")))
    assert found.well, str(found)
    assert "localhost:" in found.step("endpoint").found
    assert "(127.0.0.1)" in found.step("endpoint").found


# -- connection and credentials --------------------------------------------------------------------------------------


def test_a_connection_that_cannot_be() -> None:
    def find() -> Subject:
        raise ConfigurationError("There is no connection 'gpu'.")

    assert failing(examine(find), "connection").found == "There is no connection 'gpu'."


def test_a_kubeconfig_that_is_not_there(look: Look) -> None:
    assert "/not/there" in failing(look(kubeconfig("/not/there")), "credentials").found


def test_a_credential_plugin_that_fails(cluster: EmbeddedCluster, look: Look) -> None:
    document = cluster.kubeconfig()
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "sh",
        "args": ["-c", "echo no login >&2; false"],
    }
    document["users"][0]["user"] = {"exec": plugin}
    assert "no login" in failing(look(kubeconfig(document=document)), "credentials").found


def test_a_client_certificate_that_has_ended(cluster: EmbeddedCluster, ca: trustme.CA, look: Look) -> None:
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    ended = ca.issue_cert("alice@example.org", not_before=past, not_after=past + datetime.timedelta(days=1))
    document = cluster.kubeconfig()
    document["users"][0]["user"] = {
        "client-certificate-data": _encoded(ended.cert_chain_pems[0].bytes()),
        "client-key-data": _encoded(ended.private_key_pem.bytes()),
    }
    step = failing(look(kubeconfig(document=document)), "credentials")
    assert "until 2020-01-02 00:00:00 UTC" in step.found
    assert "It has ended: renew it in context 'alpha'" in step.next_step


def _encoded(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


# -- endpoint --------------------------------------------------------------------------------------------------------


def test_a_name_that_cannot_be_resolved(by_token: ByToken, look: Look) -> None:
    step = failing(look(by_token(server="https://no-such-host.invalid:6443")), "endpoint")
    assert "The name no-such-host.invalid of no-such-host.invalid:6443 cannot be resolved" in step.found
    assert "whether this host needs a VPN or another DNS" in step.next_step


def test_a_closed_port(by_token: ByToken, look: Look) -> None:
    step = failing(look(by_token(server=f"https://127.0.0.1:{closed_port()}")), "endpoint")
    assert "(127.0.0.1: connection refused)" in step.found
    assert "that a firewall, VPN or proxy setting lets this host reach it" in step.next_step


# -- TLS -------------------------------------------------------------------------------------------------------------


def test_another_ca(by_token: ByToken, look: Look, ca: trustme.CA) -> None:
    with tls_server(leaf(trustme.CA(organization_name="Theirs"))) as url:
        step = failing(look(by_token(server=url, ca_data=ca.cert_pem.bytes().decode())), "tls")
    assert "is refused: " in step.found
    assert "it is not the one that signed this certificate" in step.next_step
    assert "Theirs" in step.next_step
    assert "trusted for" in step.next_step


def test_a_server_s_certificate_that_has_ended(by_token: ByToken, look: Look, ca: trustme.CA) -> None:
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    ended = leaf(ca, not_before=past, not_after=past + datetime.timedelta(days=1))
    with tls_server(ended) as url:
        step = failing(look(by_token(server=url, ca_data=ca.cert_pem.bytes().decode())), "tls")
    assert "certificate has expired" in step.found
    assert "Renew the server's certificate, and check this host's clock" in step.next_step


def test_another_name(by_token: ByToken, look: Look, ca: trustme.CA) -> None:
    with tls_server(ca.issue_cert("elsewhere.example")) as url:
        step = failing(look(by_token(server=url, ca_data=ca.cert_pem.bytes().decode())), "tls")
    assert "certificate is not valid for '127.0.0.1'" in step.found
    assert "tls-server-name" in step.next_step


def test_what_speaks_no_tls(by_token: ByToken, look: Look) -> None:
    with proxy([], refusal="400 Bad Request") as port:
        step = failing(look(by_token(server=f"https://127.0.0.1:{port}")), "tls")
    assert "handshake" in step.found


def test_what_takes_connections_and_ends_them(by_token: ByToken, look: Look) -> None:
    with serving(lambda connection: None) as port:
        step = failing(look(by_token(server=f"https://127.0.0.1:{port}")), "tls")
    assert f"127.0.0.1:{port}" in step.found
    assert "handshake" in step.found


def test_what_takes_connections_and_says_nothing(by_token: ByToken, look: Look) -> None:
    with silence() as url:
        step = failing(look(by_token(server=url)), "tls")
    assert "takes connections, but says nothing in the handshake" in step.found


# -- authentication --------------------------------------------------------------------------------------------------


def test_a_401(cluster: EmbeddedCluster, by_token: ByToken, look: Look) -> None:
    step = failing(look(by_token(token="hunter2hunter2")), "authentication")
    assert "refused the token from the test" in step.found
    plugin = {"token": "hunter2hunter2", "expirationTimestamp": None}
    document = cluster.kubeconfig()
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": plugin}
    document["users"][0]["user"] = {
        "exec": {"apiVersion": answer["apiVersion"], "command": "echo", "args": [json.dumps(answer)]}
    }
    step = failing(look(kubeconfig(document=document)), "authentication")
    assert "401 Unauthorized" in step.found
    assert f"{cluster.server} (context 'alpha'" in step.next_step
    assert "knows no one by it" in step.next_step


def test_an_anonymous_request(cluster: EmbeddedCluster, by_token: ByToken, look: Look) -> None:
    with cluster.faults.answer("selfsubjectreviews", 403, message='User "system:anonymous" cannot create'):
        step = failing(look(by_token()), "authentication")
    assert "takes us for system:anonymous" in step.found


@pytest.mark.parametrize("status", [403, 404])
def test_a_server_that_does_not_tell_who_we_are(
    cluster: EmbeddedCluster, by_token: ByToken, look: Look, status: int
) -> None:
    with cluster.faults.answer("selfsubjectreviews", status):
        found = look(by_token())
    assert found.well
    assert "takes the credential; it does not tell whose it is" in found.step("authentication").found


def test_a_server_that_is_down_behind_its_port(cluster: EmbeddedCluster, by_token: ByToken, look: Look) -> None:
    with cluster.faults.answer("selfsubjectreviews", 500):
        step = failing(look(by_token()), "authentication")
    assert "500" in step.found


# -- permissions -----------------------------------------------------------------------------------------------------


def as_user(cluster: EmbeddedCluster, name: str, *rules: Rule) -> ClusterRef:
    cluster.add_user(User(name, rules=rules))
    return kubeconfig(document=cluster.kubeconfig(user=name))


def test_no_rights_at_all(cluster: EmbeddedCluster, look: Look) -> None:
    step = failing(look(as_user(cluster, "nobody")), "permissions")
    assert (
        "In the namespace 'default' we may not create pods, watch pods, delete pods, get pods/log, get pods"
        in step.found
    )
    assert "no pod can be created; a pod's state cannot be read; pods remain on the cluster" in step.found
    assert (
        '  - {apiGroups: [""], resources: ["pods"], verbs: [create, watch, delete, get, list, patch]}' in step.next_step
    )


def test_rights_that_suffice(cluster: EmbeddedCluster, look: Look) -> None:
    ref = as_user(
        cluster,
        "runner",
        Rule(("create", "get", "delete"), ("pods",), ("jobs",)),
        Rule(("get",), ("pods/log",), ("jobs",)),
    )
    found = look(ref, namespace="jobs")
    assert found.well
    step = found.step("permissions")
    assert step.outcome is Outcome.WARNING
    assert "a pod's state is read every 2 s; a retry starts a new pod (reattach)" in step.found
    assert "no pod can be created" not in step.found
    assert failing(look(ref), "permissions").found.startswith("In the namespace 'default'")
    assert look(replace(ref, namespace="jobs")).well


def test_a_server_that_does_not_tell_what_we_may(cluster: EmbeddedCluster, by_token: ByToken, look: Look) -> None:
    with cluster.faults.answer("selfsubjectaccessreviews", 403):
        found = look(by_token())
    assert found.well
    assert found.step("permissions").outcome is Outcome.WARNING


# -- proxies ---------------------------------------------------------------------------------------------------------


def through(cluster: EmbeddedCluster, port: int, **changes: Any) -> ClusterRef:
    document = cluster.kubeconfig()
    document["clusters"][0]["cluster"].update({"proxy-url": f"http://me:hunter2@127.0.0.1:{port}", **changes})
    return kubeconfig(document=document)


def test_through_a_proxy(cluster: EmbeddedCluster, look: Look) -> None:
    asked: list[str] = []
    with proxy(asked) as port:
        found = look(through(cluster, port))
    assert found.well, str(found)
    assert f"http://127.0.0.1:{port}" in found.step("endpoint").found
    assert f"through which {cluster.server} is reached" in found.step("endpoint").found
    assert found.step("tls").found == "The server's certificate is trusted, through the proxy."
    assert "hunter2" not in str(found)
    assert asked[0] == f"CONNECT {cluster.server.removeprefix('https://')} HTTP/1.1"


@pytest.mark.parametrize("refusal", ["407 Proxy Authentication Required", "403 Forbidden", "502 Bad Gateway"])
def test_a_proxy_that_refuses(cluster: EmbeddedCluster, look: Look, refusal: str) -> None:
    with proxy([], refusal=refusal) as port:
        step = failing(look(through(cluster, port)), "endpoint")
    assert refusal.split()[0] in step.found
    assert "hunter2" not in step.found


def test_a_proxy_that_is_not_there(cluster: EmbeddedCluster, look: Look) -> None:
    step = failing(look(through(cluster, closed_port())), "endpoint")
    assert "proxy-url of context 'alpha'" in step.found
    assert "connection refused" in step.found


def test_another_ca_behind_a_proxy(cluster: EmbeddedCluster, look: Look, ca: trustme.CA) -> None:
    with proxy([]) as port:
        other = _encoded(ca.cert_pem.bytes())
        step = failing(look(through(cluster, port, **{"certificate-authority-data": other})), "tls")
    assert "certificate" in step.found


# -- time and threads ------------------------------------------------------------------------------------------------


def test_it_takes_no_longer_than_it_may(by_token: ByToken, look: Look) -> None:
    with silence() as url:
        step = failing(look(by_token(server=url), within_seconds=0.5), "tls")
        assert step.found.startswith("Not done within the 0.5 s")
        assert "it takes connections, and says nothing" in step.next_step
        (left,) = (thread for thread in threading.enumerate() if thread.name == "examine cluster")
    left.join(60)


class _Connections:
    """Notes the threads that look connections up."""

    def __init__(self, path: str) -> None:
        self.threads: list[threading.Thread] = []
        self.path = path

    def get(self, conn_id: str) -> CloudConnection:
        self.threads.append(threading.current_thread())
        return CloudConnection(conn_id, "google_cloud_platform", extra={"key_path": self.path})

    def aws_login(self, conn_id: str, region: str | None) -> None:
        return None


def test_connections_are_looked_up_on_the_calling_thread() -> None:
    from kpo_multicluster.clouds import gke

    connections = _Connections("/not/there/key.json")
    subject = Subject(gke("gpu", location="l", project="p", conn_id="gcp"), "", connections)
    step = failing(examine(lambda: subject, within_seconds=60), "credentials")
    assert "/not/there/key.json" in step.found
    assert connections.threads == [threading.current_thread()]


def test_a_look_up_that_comes_too_late_is_refused() -> None:
    caller = examining._Caller()
    assert caller.serve(0.0) == []
    with pytest.raises(ConfigurationError, match="time for the examination is over"):
        caller.call(lambda: 1)


def test_the_access_is_handed_on(by_token: ByToken) -> None:
    seen: list[ClusterAccess] = []
    assert examine(lambda: Subject(by_token(), "", None, seen.append), within_seconds=60).well
    assert len(seen) == 1


def test_a_fault_of_our_own_is_not_taken_for_the_cluster_s(by_token: ByToken) -> None:
    def resolved(access: ClusterAccess) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        examine(lambda: Subject(by_token(), "", None, resolved), within_seconds=60)
