"""The result of a run: read from the sidecar or the termination message, or pushed for a run that failed.

The result of a run that succeeded is pushed by Airflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kpo_multicluster.errors import ForbiddenError, NotFoundError, XComError
from kpo_multicluster.pods.status import Pod, name_of, termination
from kpo_multicluster.pods.xcom import RESULT_COMMAND, RESULT_FILE, SIDECAR_NAME, parse_json, parse_result

if TYPE_CHECKING:
    from kpo_multicluster.operators.session import PodSession

# The kubelet keeps the last 4,096 bytes of the file that `terminationMessagePath` names.
_MESSAGE_LIMIT = 4096


def push_result(ti: Any, result: Any, *, multiple_outputs: bool) -> None:
    """Pushes `result` as `return_value`, and each of its keys where there are multiple outputs.

    Raises:
        XComError: multiple outputs are asked for and the result is no object with text keys.
    """
    if result is None:
        return
    if multiple_outputs:
        if not isinstance(result, Mapping) or not all(isinstance(key, str) for key in result):
            raise XComError(f"multiple_outputs needs a JSON object as result, not {type(result).__name__}.")
        for key, value in result.items():
            ti.xcom_push(key=key, value=value)
    ti.xcom_push(key="return_value", value=result)


def with_message_transport(pod: dict[str, Any], base: str) -> None:
    """Makes the result file the container's termination message, in place."""
    for container in pod["spec"]["containers"]:
        if container.get("name") == base:
            container["terminationMessagePath"] = RESULT_FILE
            container["terminationMessagePolicy"] = "File"


def result_from_message(pod: Pod, base: str) -> Any:
    """The result that a container left as its termination message; None if it left none.

    Raises:
        XComError: it is no JSON, or was cut at 4 KiB.
    """
    ended = termination(pod, base)
    message = ended.message if ended is not None else ""
    if len(message.encode()) >= _MESSAGE_LIMIT:
        raise XComError(
            f"The result of pod {name_of(pod)} is longer than the {_MESSAGE_LIMIT} bytes that a termination message "
            "holds, and was cut: use xcom_transport='exec'."
        )
    return parse_json(message.encode(), f"the termination message of container {base!r}") if message else None


def result_from_sidecar(session: PodSession, pod: Pod) -> Any:
    """The result that is kept by the XCom sidecar, which ends with it; None if there is none.

    Raises:
        XComError: it is lost, may not be read, or is no JSON.
        PodStartError: the sidecar cannot start.
    """
    if session.deleted:
        raise _gone(pod)
    if termination(pod, SIDECAR_NAME) is not None:
        raise XComError(
            f"The XCom sidecar of pod {name_of(pod)} had ended before the result was read: it is lost. "
            "It ends with the pod's activeDeadlineSeconds, or when something kills it."
        )
    try:
        answer = session.call(lambda run: run.exec(SIDECAR_NAME, RESULT_COMMAND))
    except NotFoundError as error:
        raise _gone(pod) from error
    except ForbiddenError as error:
        raise XComError(
            f"The result of pod {name_of(pod)} could not be read: {error}. Grant the verbs 'get' and "
            "'create' on pods/exec, or set xcom_transport='termination-message', which needs neither."
        ) from error
    return parse_result(answer.stdout)


def _gone(pod: Pod) -> XComError:
    return XComError(
        f"Pod {name_of(pod)} was removed before its result was read: it is lost. With "
        "xcom_transport='termination-message' a result of up to 4 KiB is known as soon as the container has ended."
    )
