"""A program that runs a node in a process of its own, for tests that restrict or kill that process.

`python -m tests.testing.node_program check` starts a node and says in which way it got its rights;
`... volumes` runs a pod that exercises what needs namespaces; `... hold` starts pods and waits to be killed.
It prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from kpo_multicluster.errors import ConfigurationError

from .node_cases import NodeUnderTest, running_node

_SCRIPT = """
set -e
id -u
echo '{"answer": 42}' > /airflow/xcom/return.json
cat /etc/app/config/key
cat /opt/deep/below/file
touch /etc/made /opt/made /made /tmp/made
set -- /proc/[0-9]*; echo $#
trap 'exit 0' INT
kill -2 $(pgrep -u $(id -u) -f 'sh')
sleep 5
exit 9
"""


async def volumes(under_test: NodeUnderTest) -> dict[str, Any]:
    store = under_test.store
    store.objects["configmaps", "default", "settings"] = {"data": {"key": "from a config map\n"}}
    store.objects["secrets", "default", "keys"] = {"data": {"file": "c2VjcmV0Cg=="}}
    mounts = [
        {"name": "xcom", "mountPath": "/airflow/xcom"},
        {"name": "settings", "mountPath": "/etc/app/config"},
        {"name": "keys", "mountPath": "/opt/deep/below"},
    ]
    pod = await under_test.run_spec(
        {
            "containers": [
                {"name": "base", "image": "alpine", "command": ["sh", "-c", _SCRIPT], "volumeMounts": mounts},
                {
                    "name": "reader",
                    "image": "alpine",
                    "command": ["sh", "-c", "until [ -s /x/return.json ]; do sleep 0.01; done; cat /x/return.json"],
                    "volumeMounts": [{"name": "xcom", "mountPath": "/x"}],
                    "securityContext": {"runAsUser": 1234, "runAsGroup": 1234},
                },
            ],
            "volumes": [
                {"name": "xcom", "emptyDir": {}},
                {"name": "settings", "configMap": {"name": "settings"}},
                {"name": "keys", "secret": {"secretName": "keys"}},
            ],
        }
    )
    await pod.over()
    return {
        "uid": os.getuid(),
        "status": pod.status,
        "log": await pod.log(),
        "read": await pod.log("reader"),
        "directory": str(under_test.node._runtime.directory),
    }


async def hold(under_test: NodeUnderTest) -> dict[str, Any]:
    marker = sys.argv[2]
    pods = [await under_test.run("sh", "-c", f"trap '' TERM; setsid sleep 500 & sleep 500; : {marker}") for _ in "12"]
    for pod in pods:
        await pod.running()
    return {"directory": str(under_test.node._runtime.directory)}


async def main(what: str) -> None:
    try:
        async with running_node() as under_test:
            if what == "volumes":
                print(json.dumps(await volumes(under_test)), flush=True)
            elif what == "hold":
                print(json.dumps(await hold(under_test)), flush=True)
                if len(sys.argv) > 3 and not os.fork():
                    # A child that goes on with copies of whatever is open.
                    await asyncio.to_thread(sys.stdin.read)
                    os._exit(0)
                await asyncio.sleep(600)
            else:
                pod = await under_test.run("echo", "hello")
                print(json.dumps({"phase": await pod.over(), "log": await pod.log()}))
    except ConfigurationError as error:
        print(json.dumps({"error": str(error)}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
