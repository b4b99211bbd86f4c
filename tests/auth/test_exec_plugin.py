from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from kpo_multicluster.auth.access import ClusterAccess, Token, TokenSource
from kpo_multicluster.auth.exec_plugin import ExecPlugin, serve_in_process, token_fetcher
from kpo_multicluster.auth.kubeconfig import KubeconfigResolver
from kpo_multicluster.auth.tls import ssl_context
from kpo_multicluster.cluster import kubeconfig
from kpo_multicluster.errors import ExecPluginError, KubeconfigError

V1 = "client.authentication.k8s.io/v1"
V1BETA1 = "client.authentication.k8s.io/v1beta1"


def counting(version: str = V1, more: str = "") -> str:
    """Prints tokens numbered by the call, counted in the file that $COUNT names."""
    return f"""echo call >> "$COUNT"; n=$(wc -l < "$COUNT")
echo '{{"apiVersion":"{version}","kind":"ExecCredential","status":{{"token":"token-'$n'"{more}}}}}'"""


def answer(status: Any, version: str = V1) -> str:
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})


def rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class World:
    """A kubeconfig beside its plugin."""

    def __init__(self, directory: Path, document: Callable[..., dict[str, Any]], clock: Any) -> None:
        self.directory, self.clock = directory, clock
        self._document = document
        self.count = directory / "count"
        self.timeout_seconds = 20.0

    def plugin(self, body: str, name: str = "plugin") -> Path:
        path = self.directory / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    def access(self, *, cluster: Any = None, **exec_: Any) -> ClusterAccess:
        env = [{"name": "COUNT", "value": str(self.count)}, *exec_.pop("env", [])]
        entry = {"apiVersion": V1, "command": "./plugin", "interactiveMode": "Never", "env": env, **exec_}
        path = self.directory / "config"
        path.write_text(json.dumps(self._document({"exec": entry}, cluster)))
        resolver = KubeconfigResolver(clock=self.clock, plugin_timeout_seconds=self.timeout_seconds)
        return resolver.resolve(kubeconfig(str(path)))

    def tokens(self, **exec_: Any) -> TokenSource:
        tokens = self.access(**exec_).tokens
        assert tokens is not None
        return tokens

    def fails(self, message: str, **exec_: Any) -> str:
        with pytest.raises(ExecPluginError, match=message) as caught:
            self.tokens(**exec_).current()
        assert "exec of user 'u' of" in str(caught.value)
        assert "config (context 'main')" in str(caught.value)
        return str(caught.value)

    @property
    def calls(self) -> int:
        return len(self.count.read_text().splitlines()) if self.count.exists() else 0


@pytest.fixture
def world(tmp_path: Path, document: Callable[..., dict[str, Any]], clock: Any) -> World:
    return World(tmp_path, document, clock)


def test_it_is_run_when_first_asked_and_again_before_its_token_ends(world: World, clock: Any) -> None:
    world.plugin(counting(more=f',"expirationTimestamp":"{rfc3339(clock.now + 900)}"'))
    tokens = world.tokens()
    assert world.calls == 0
    assert [tokens.current().value for _ in range(3)] == ["token-1"] * 3
    assert tokens.current().expires_at == clock.now + 900
    clock.now += 839
    assert tokens.current().value == "token-1"
    clock.now += 1
    assert tokens.current().value == "token-2"


def test_without_an_end_it_is_run_once_and_when_the_token_is_refused(world: World, clock: Any) -> None:
    world.plugin(counting(V1BETA1))
    tokens = world.tokens(apiVersion=V1BETA1)
    first = tokens.current()
    clock.now += 10**6
    assert tokens.current() is first
    assert tokens.replace(first).value == "token-2"
    assert world.calls == 2


def test_eight_threads_run_it_once(world: World) -> None:
    world.plugin("sleep 0.1\n" + counting())
    tokens = world.tokens()
    with ThreadPoolExecutor(8) as threads:
        assert {future.result().value for future in [threads.submit(tokens.current) for _ in range(8)]} == {"token-1"}
    assert world.calls == 1


def test_what_it_is_told(world: World, ca: Any, as_base64: Callable[[str], str]) -> None:
    world.plugin(
        """env > "$COUNT.env"; printf '%s\\n' "$@" > "$COUNT.args"; cat > "$COUNT.stdin"; """
        f"""ps -o tty= -p $$ > "$COUNT.tty"; echo '{answer({"token": "t"})}'"""
    )
    ca_data = as_base64(ca.cert_pem.bytes().decode())
    cluster = {
        "certificate-authority-data": ca_data,
        "tls-server-name": "kubernetes",
        "extensions": [
            {"name": "other", "extension": {"no": 1}},
            {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}},
        ],
    }
    before = dict(os.environ)
    world.tokens(
        cluster=cluster,
        args=["get-token", "--name=a b"],
        env=[{"name": "REGION", "value": "eu-west-1"}, {"name": "EMPTY"}],
        provideClusterInfo=True,
    ).current()
    assert dict(os.environ) == before
    given = dict(line.split("=", 1) for line in Path(f"{world.count}.env").read_text().splitlines() if "=" in line)
    assert (given["REGION"], given["EMPTY"], given["PATH"]) == ("eu-west-1", "", os.environ["PATH"])
    assert json.loads(given["KUBERNETES_EXEC_INFO"]) == {
        "apiVersion": V1,
        "kind": "ExecCredential",
        "spec": {
            "interactive": False,
            "cluster": {
                "server": "https://127.0.0.1:6443",
                "certificate-authority-data": ca_data,
                "tls-server-name": "kubernetes",
                "config": {"audience": "a"},
            },
        },
    }
    assert Path(f"{world.count}.args").read_text() == "get-token\n--name=a b\n"
    assert Path(f"{world.count}.stdin").read_text() == ""
    assert Path(f"{world.count}.tty").read_text().strip() in ("?", "")


def test_the_cluster_is_told_only_when_asked(world: World) -> None:
    world.plugin(f"""echo "$KUBERNETES_EXEC_INFO" > "$COUNT.info"; echo '{answer({"token": "t"})}'""")
    world.tokens().current()
    assert json.loads(Path(f"{world.count}.info").read_text())["spec"] == {"interactive": False}


def test_a_client_certificate_in_the_answer(world: World, identity: Any, make_server: Any) -> None:
    server = make_server(accepted_certificates={"alice"})
    status = {"clientCertificateData": identity.certificate, "clientKeyData": identity.key}
    (world.directory / "answer").write_text(answer(status))
    world.plugin("cat $(dirname $0)/answer")
    token = world.tokens().current()
    assert token.value == ""
    context = ssl_context(ClusterAccess(server.url, "test", ca_pem=server.ca_pem), token)
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=10)
    connection.request("GET", "/version")
    assert connection.getresponse().status == 200
    connection.close()


def test_a_token_in_the_kubeconfig_goes_before_the_plugin(world: World, document: Any) -> None:
    user = {"token": "inline", "exec": {"apiVersion": V1, "command": "absent"}}
    tokens = KubeconfigResolver().resolve(kubeconfig(document=document(user))).tokens
    assert tokens is not None
    assert tokens.current().value == "inline"


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [
        ("2030-01-01T00:00:00Z", 0.0),
        ("2030-01-01t00:00:00z", 0.0),
        ("2030-01-01T00:00:00.5Z", 0.5),
        ("2030-01-01T00:00:00.123456789Z", 0.123456789),
        ("2030-01-01T02:00:00+02:00", 0.0),
    ],
)
def test_forms_of_the_end(world: World, stamp: str, seconds: float) -> None:
    world.plugin(f"echo '{answer({'token': 't', 'expirationTimestamp': stamp})}'")
    base = datetime(2030, 1, 1, tzinfo=timezone.utc).timestamp()
    assert world.tokens().current().expires_at == pytest.approx(base + seconds, abs=1e-6)


def test_a_command_on_the_path(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.plugin(f"echo '{answer({'token': 't'})}'", "kpo-test-plugin")
    monkeypatch.setenv("PATH", f"{world.directory}:{os.environ['PATH']}")
    assert world.tokens(command="kpo-test-plugin").current().value == "t"


def test_an_absent_command_says_where_it_was_looked_for_and_how_to_install_it(world: World) -> None:
    hint = "Install it from\nhttps://example.org\n"
    message = world.fails(
        r"'kpo-no-such-plugin' .* is not on the PATH of this process", command="kpo-no-such-plugin", installHint=hint
    )
    assert os.environ["PATH"] in message
    assert message.endswith("The kubeconfig says: Install it from\nhttps://example.org")
    message = world.fails(r"'./absent' .* does not exist at", command="./absent", installHint=hint)
    assert f"{world.directory}/absent" in message
    assert "https://example.org" in message


def test_a_command_that_cannot_be_run(world: World) -> None:
    world.plugin("true").chmod(0o644)
    world.fails("cannot be run: Permission denied")
    (world.directory / "plugin").chmod(0o755)
    (world.directory / "plugin").write_text("#!/absent/interpreter\n")
    world.fails(r"cannot be run: No such file or directory \(the interpreter")
    world.plugin("true")
    world.fails("null character", args=["a\0b"])


def test_a_failure_shows_the_exit_code_and_the_end_of_stderr(world: World) -> None:
    world.plugin("seq 1 10000 >&2; echo 'no such profile' >&2; exit 3")
    message = world.fails(r"failed with exit code 3\. Its stderr ends with: \.\.\.")
    assert message.endswith("9999\n10000\nno such profile")
    assert len(message) < 1500
    world.plugin("kill -TERM $$")
    world.fails(r"died of signal 15\. It wrote nothing to stderr")


def test_stderr_without_end_is_read_in_no_time(world: World) -> None:
    for filler in ("a", ":", "aB3", " "):
        world.plugin(f"yes '{filler}' | head -c 900000 | tr -d '\\n' >&2; echo ' the end' >&2; exit 1")
        started = time.monotonic()
        assert world.fails("exit code 1").endswith("the end")
        assert time.monotonic() - started < 20


def test_no_secret_of_the_plugin_is_shown(world: World) -> None:
    jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
    eks = "k8s-aws-v1.aHR0cHM6Ly9zdHMuZXUtd2VzdC0xLmFtYXpvbmF3cy5jb20v"
    aws = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY1"
    secrets = ["short-token", "env-secret", "arg-secret", "flag-secret", jwt, eks, aws]
    world.plugin(
        f"""echo '{answer({"token": "short-token"})}'
        echo "in /usr/local/lib/python3.11/site-packages/some_very_long_package_Name2/module.py" >&2
        echo "profile production-admin: short-token $CLIENT_SECRET $2 {jwt} {eks} {aws} flag-secret" >&2; exit 1"""
    )
    message = world.fails(
        "exit code 1",
        args=["--client-secret", "arg-secret", "--password=flag-secret", "--token-file=/var/run/token"],
        env=[{"name": "CLIENT_SECRET", "value": "env-secret"}],
    )
    assert not [secret for secret in secrets if secret in message]
    assert "profile production-admin: *** ***" in message
    assert "/usr/local/lib/python3.11/site-packages/some_very_long_package_Name2/module.py" in message


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        ("", r"printed no ExecCredential with a status\. It wrote nothing to stderr"),
        ("s3cret is not JSON", "printed no ExecCredential"),
        ('["s3cret"]', "printed no ExecCredential"),
        ('{"kind":"Status","apiVersion":"v1","status":{"token":"s3cret"}}', "printed no ExecCredential"),
        (json.dumps({"kind": "ExecCredential", "apiVersion": V1}), "printed no ExecCredential"),
        (
            answer({"token": "s3cret"}, V1BETA1),
            "another apiVersion than the kubeconfig's, client.authentication.k8s.io/v1:",
        ),
        (answer({}), "neither a token nor a client certificate and its key"),
        (answer({"token": ""}), "neither a token nor"),
        (answer({"clientKeyData": "s3cret"}), "neither a token nor"),
        (answer({"token": "s3cret", "clientKeyData": "s3cret"}), "neither a token nor"),
        (answer({"token": 5}), "status.token that is not text"),
        (answer({"token": "s3cret with space"}), "unusable answer. .* not a bearer token"),
        (answer({"clientCertificateData": "s3cret", "clientKeyData": "s3cret"}), "unusable answer. .* not a PEM"),
        (answer({"token": "s3cret", "expirationTimestamp": "tomorrow"}), "not of RFC 3339"),
        (answer({"token": "s3cret", "expirationTimestamp": "2030-02-31T00:00:00Z"}), "that does not exist"),
    ],
)
def test_nonsense_is_refused_and_not_shown(world: World, printed: str, message: str) -> None:
    (world.directory / "answer").write_text(printed)
    world.plugin("cat $(dirname $0)/answer")
    assert "s3cret" not in world.fails(message)


def test_an_answer_that_has_already_expired(world: World, clock: Any) -> None:
    world.plugin(f"echo '{answer({'token': 't', 'expirationTimestamp': rfc3339(clock.now - 1)})}'")
    message = world.fails("answered with a credential that expired at 1970-01-12T13:46:39Z")
    assert "the clock here says 1970-01-12T13:46:40+00:00" in message


def test_output_without_end_is_cut(world: World) -> None:
    world.plugin("exec cat /dev/zero")
    world.fails("printed more than 1048576 bytes and was killed")


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "ZX"  # it is dead; whoever inherited it has yet to collect it


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_one_that_hangs_is_killed_with_its_children_and_reaped(world: World) -> None:
    world.timeout_seconds = 0.5
    world.plugin("""echo $$ > "$COUNT"; sleep 1000 & echo $! >> "$COUNT"; echo waiting >&2; wait""")
    started = time.monotonic()
    world.fails(r"did not answer within 0\.5 s and was killed\. Its stderr ends with: waiting")
    assert time.monotonic() - started < 20
    leader, child = map(int, world.count.read_text().split())
    wait_for(lambda: gone(leader) and gone(child))
    with pytest.raises(ChildProcessError):
        os.waitpid(leader, os.WNOHANG)


def test_a_child_left_in_the_background_with_the_output_open_delays_nothing(world: World) -> None:
    world.plugin(f"""sleep 1000 & echo $! > "$COUNT"; echo '{answer({"token": "t"})}'""")
    started = time.monotonic()
    assert world.tokens().current().value == "t"
    assert time.monotonic() - started < 20
    os.kill(int(world.count.read_text()), signal.SIGKILL)


class Interrupted(BaseException):
    pass


@pytest.fixture
def alarm() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_an_interrupted_caller_leaves_no_process(world: World, alarm: None) -> None:
    world.plugin("""echo $$ > "$COUNT.tmp"; mv "$COUNT.tmp" "$COUNT"; exec sleep 1000""")
    tokens = world.tokens()

    def waits_for_the_plugin() -> bool:
        stack = traceback.extract_stack(sys._current_frames()[threading.main_thread().ident or 0])
        return world.count.exists() and any(frame.name == "_wait" for frame in stack)

    def interrupt() -> None:
        wait_for(waits_for_the_plugin)
        os.kill(os.getpid(), signal.SIGALRM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted):
        tokens.current()
    thread.join()
    assert gone(int(world.count.read_text()))
    world.plugin(counting())
    assert tokens.current().value == "token-2", "the lock is free again"


def test_nothing_is_left_open(world: World, descriptors: Callable[[], int]) -> None:
    world.plugin(counting())
    before = descriptors()
    tokens = world.tokens()
    token = tokens.current()
    for _ in range(5):
        token = tokens.replace(token)
    world.plugin("exit 1")
    with pytest.raises(ExecPluginError):
        tokens.replace(token)
    assert descriptors() <= before
    assert {path.name for path in world.directory.iterdir()} == {"config", "count", "plugin"}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"command": None}, "names no command"),
        ({"apiVersion": None}, r"has the apiVersion None; client\.authentication\.k8s\.io/v1 and .*v1beta1 are spoken"),
        ({"apiVersion": "client.authentication.k8s.io/v1alpha1"}, r"v1alpha1'; .* Update \./plugin and have it write"),
        ({"interactiveMode": "Always"}, "interactiveMode: Always, and no one is there to answer"),
        ({"args": "get-token"}, "field args .* must be a list of texts"),
        ({"env": [{"value": "s3cret"}]}, "environment variable without a proper name"),
        ({"env": [{"name": "A=B", "value": "s3cret"}]}, "environment variable without a proper name"),
        ({"env": [{"name": "A", "value": 5}]}, "field value of an item of env .* must be text"),
    ],
)
def test_an_entry_that_cannot_work_is_refused_when_it_is_read(world: World, entry: Any, message: str) -> None:
    with pytest.raises(KubeconfigError, match=message) as caught:
        world.tokens(**entry)
    assert "user 'u' of" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_known_plugin_is_served_in_process(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def stand_in(plugin: ExecPlugin) -> Callable[[], Token] | None:
        if plugin.args != ("get-token", "--name", "gpu"):
            return None
        return lambda: Token(f"made here for {plugin.env['COUNT']}")

    from kpo_multicluster.auth import exec_plugin

    monkeypatch.setattr(exec_plugin, "_in_process", {})
    serve_in_process("kpo-known-plugin", stand_in)
    for command in ("kpo-known-plugin", "/not/installed/kpo-known-plugin"):
        tokens = world.tokens(command=command, args=["get-token", "--name", "gpu"])
        assert tokens.current().value == f"made here for {world.count}"
    world.fails("is not on the PATH", command="kpo-known-plugin", args=["version"])


def test_a_real_interpreter_as_plugin(world: World) -> None:
    code = """
import json, os
print(json.dumps({**json.loads(os.environ["KUBERNETES_EXEC_INFO"]), "status": {"token": "t"}}))
"""
    assert world.tokens(command=sys.executable, args=["-c", code]).current().value == "t"


def test_its_secrets_are_not_in_its_repr() -> None:
    plugin = ExecPlugin("c", ("s3cret",), {"A": "s3cret"}, V1, "source", Path())
    assert "s3cret" not in repr(plugin)
    assert callable(token_fetcher(plugin))


def test_life(world: World) -> None:
    """A token of a real plugin on the real clock."""
    end = datetime.now(timezone.utc) + timedelta(hours=1)
    world.plugin(f"echo '{answer({'token': 't', 'expirationTimestamp': rfc3339(end.timestamp())})}'")
    world.clock = time.time
    assert world.tokens().current().expires_at == pytest.approx(end.timestamp(), abs=1)
