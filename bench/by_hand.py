"""Operators without a provider: the least that runs a pod, and the two ends that a log is handed between."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import yaml
from airflow.sdk import BaseOperator

from bench.cases import LINE_COUNT, line

if TYPE_CHECKING:
    import aiohttp

_BASE = "base"
_SIDECAR = "xcom"
_READ_RESULT = ("sh", "-c", "cat /airflow/xcom/return.json; kill -s INT 1")
_STDOUT_CHANNEL = 1


class HandWrittenPod(BaseOperator):
    """Creates a pod, watches it beside its log, reads its result, deletes it. Does not expect anything to fail."""

    def __init__(
        self,
        *,
        name: str,
        namespace: str,
        image: str,
        cmds: list[str],
        config_file: str,
        in_cluster: bool,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.name, self.namespace, self.image, self.cmds = name, namespace, image, cmds
        self.config_file, self.in_cluster = config_file, in_cluster

    def execute(self, context: Any) -> Any:
        """Runs the pod."""
        return asyncio.run(self._run())

    async def _run(self) -> Any:
        import aiohttp

        server, token, trusted = _access(Path(self.config_file))
        async with aiohttp.ClientSession(
            server,
            headers={"Authorization": f"Bearer {token}"},
            connector=aiohttp.TCPConnector(ssl=trusted),
            timeout=aiohttp.ClientTimeout(total=None),
            raise_for_status=True,
        ) as session:
            pods = f"/api/v1/namespaces/{self.namespace}/pods"
            async with session.post(pods, json=self._manifest()) as answer:
                pod = await answer.json()
            path = f"{pods}/{pod['metadata']['name']}"
            await self._accompany(session, pods, pod)
            result = await self._result(session, path) if self.do_xcom_push else None
            options = {"gracePeriodSeconds": 1} if self.do_xcom_push else {}
            async with session.delete(path, json=options) as answer:
                await answer.read()
        return result

    async def _accompany(self, session: aiohttp.ClientSession, pods: str, pod: dict[str, Any]) -> None:
        """Watches the pod until its container has ended, and reads its log beside."""
        name, version = pod["metadata"]["name"], pod["metadata"]["resourceVersion"]
        query = {"watch": "true", "fieldSelector": f"metadata.name={name}", "resourceVersion": version}
        log: asyncio.Task[None] | None = None
        async with session.get(pods, params=query, read_bufsize=2**20) as events:
            async for event in events.content:
                state = _state(json.loads(event)["object"])
                if log is None and state.keys() & {"running", "terminated"}:
                    log = asyncio.create_task(self._read_log(session, f"{pods}/{name}/log"))
                if "terminated" in state:
                    break
        if log is not None:
            await log

    async def _read_log(self, session: aiohttp.ClientSession, path: str) -> None:
        rest = b""
        async with session.get(path, params={"container": _BASE, "follow": "true"}) as answer:
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                self._take(lines)

    def _take(self, lines: list[bytes]) -> None:
        for text in lines:
            self.log.info(text.decode())

    async def _result(self, session: aiohttp.ClientSession, path: str) -> Any:
        query = [("container", _SIDECAR), ("stdout", "true"), *(("command", word) for word in _READ_RESULT)]
        output = b""
        async with session.ws_connect(f"{path}/exec?{urlencode(query)}", protocols=("v4.channel.k8s.io",)) as socket:
            async for message in socket:
                if message.data[0] == _STDOUT_CHANNEL:
                    output += message.data[1:]
        return json.loads(output)

    def _manifest(self) -> dict[str, Any]:
        containers: list[dict[str, Any]] = [{"name": _BASE, "image": self.image, "command": self.cmds}]
        spec: dict[str, Any] = {"restartPolicy": "Never", "containers": containers}
        if self.do_xcom_push:
            mount = {"name": "xcom", "mountPath": "/airflow/xcom"}
            command = ["sh", "-c", 'trap "exit 0" INT; while true; do sleep 1; done']
            containers.append({"name": _SIDECAR, "image": self.image, "command": command})
            spec["volumes"] = [{"name": "xcom", "emptyDir": {}}]
            for container in containers:
                container["volumeMounts"] = [mount]
        return {"metadata": {"name": f"{self.name}-{uuid.uuid4().hex[:8]}"}, "spec": spec}


class RawStream(HandWrittenPod):
    """The same, but counts the lines of the log where it should write them."""

    def _take(self, lines: list[bytes]) -> None:
        self.counted = getattr(self, "counted", 0) + len(lines)


class UnreadPod(HandWrittenPod):
    """The same, but leaves the log alone: what the pod takes by itself."""

    async def _read_log(self, session: aiohttp.ClientSession, path: str) -> None:
        pass


class BareLogger(HandWrittenPod):
    """Runs no pod: hands the lines to the task's logger."""

    def execute(self, context: Any) -> None:
        """Logs the lines."""
        info: Callable[[str], None] = self.log.info
        for number in range(LINE_COUNT):
            info(line(number))


def _access(path: Path) -> tuple[str, str, ssl.SSLContext]:
    """Server, token and what to trust, from a kubeconfig with one context."""
    config = yaml.safe_load(path.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    return cluster["server"], user["token"], ssl.create_default_context(cadata=authority)


def _state(pod: dict[str, Any]) -> dict[str, Any]:
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    return next((status["state"] for status in statuses if status["name"] == _BASE), {})
