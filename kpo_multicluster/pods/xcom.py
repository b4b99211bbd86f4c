"""The result of a run: the upstream operator's protocol, read by one command.

The base container writes JSON to `/airflow/xcom/return.json`; a sidecar that shares the directory waits until its
process gets SIGINT. One command, run in the sidecar, prints the file and then ends the sidecar. What it prints is
framed, so that a cut answer is noticed:

    kpo-xcom value LENGTH PID       or:  kpo-xcom missing - PID,  kpo-xcom empty - PID,  kpo-xcom unreadable - PID
    the file's bytes
    kpo-xcom end

LENGTH is `-` where the image has no `wc`; PID is the process that is about to be ended, `-` if it was not found.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Literal

from kpo_multicluster.errors import XComError

MOUNT_PATH: Final = "/airflow/xcom"
RESULT_FILE: Final = f"{MOUNT_PATH}/return.json"
SIDECAR_NAME: Final = "airflow-xcom-sidecar"
SIDECAR_COMMAND: Final = 'trap "exit 0" INT; while true; do sleep 1; done;'
EMPTY_RESULT: Final = "__airflow_xcom_result_empty__"

_HEADER: Final = b"kpo-xcom"
_TRAILER: Final = b"\nkpo-xcom end\n"

# Process 1 is the sidecar, save where the pod's containers (or the node's processes) are all in sight: there it is the
# process with the sidecar's command and this shell's own mount namespace. Only `read` and `case` look at processes: not
# every image has pgrep, and its pattern would match this command too, as a plain one here would: hence the `?`.
# The end comes a second later, from the background: with the sidecar goes every process of its container, and this one
# has to have delivered the answer by then. If the answer cannot be written, `&&` leaves the sidecar be for a next try.
_SCRIPT: Final = r"""
file=@DIRECTORY@/return.json
pid=-
for process in /proc/1 /proc/[0-9]*; do
  line=
  { IFS= read -r line <"$process/cmdline"; } 2>/dev/null
  case $line in
    *'trap "exit 0" IN'?'; while true; do sleep 1'*) ;;
    *) continue ;;
  esac
  if [ "$process" = /proc/1 ] || {
    mine=$(readlink /proc/self/ns/mnt 2>/dev/null) && [ "$mine" = "$(readlink "$process/ns/mnt" 2>/dev/null)" ]
  }; then
    pid=${process#/proc/}
    break
  fi
done
if [ ! -e "$file" ]; then
  printf 'kpo-xcom missing - %s\n\nkpo-xcom end\n' "$pid"
elif [ ! -r "$file" ]; then
  printf 'kpo-xcom unreadable - %s\n\nkpo-xcom end\n' "$pid"
elif [ ! -s "$file" ]; then
  printf 'kpo-xcom empty - %s\n\nkpo-xcom end\n' "$pid"
else
  length=$(wc -c <"$file" 2>/dev/null) && length=$((length)) || length=-
  printf 'kpo-xcom value %s %s\n' "$length" "$pid" && cat "$file" && printf '\nkpo-xcom end\n'
fi && if [ "$pid" != - ]; then
  { sleep 1; kill -s INT "$pid"; } </dev/null >/dev/null 2>&1 &
fi
"""


def result_command(directory: str = MOUNT_PATH) -> tuple[str, ...]:
    """The command, for POSIX shells, that prints the result in a directory and ends the sidecar it runs in.

    It succeeds unless the answer could not be written.

    Args:
        directory: where `return.json` is; a path without characters that mean something to a shell.
    """
    return "/bin/sh", "-c", _SCRIPT.replace("@DIRECTORY@", directory)


RESULT_COMMAND: Final = result_command()


@dataclass(frozen=True)
class Reading:
    """What the command printed.

    Attributes:
        state: whether there was a result; a file of nothing but upstream's mark for none counts as empty.
        value: the result; None when there was none.
        ends_sidecar: whether the sidecar was found, and so ends; else it goes on until the pod is deleted.
    """

    state: Literal["value", "empty", "missing"]
    value: Any
    ends_sidecar: bool


def parse_result(stdout: bytes) -> Any:
    """The result that the command printed; None for a missing or empty file.

    Raises:
        XComError: the answer is cut or is none, the file cannot be read, or it is not JSON.
    """
    return read_result(stdout).value


def read_result(stdout: bytes) -> Reading:
    """All that the command printed.

    Raises:
        XComError: the answer is cut or is none, the file cannot be read, or it is not JSON.
    """
    state, length, ends_sidecar, content = _unframed(stdout)
    if length is not None and len(content) != length:
        raise XComError(
            f"{RESULT_FILE} was {length} bytes long when its reading began, and {len(content)} arrived: "
            "it was being written. Let nothing write to it once the base container has ended."
        )
    if state == "unreadable":
        raise XComError(
            f"{RESULT_FILE} may not be read by the user that the XCom sidecar runs as. Make the file readable for all, "
            "or give xcom_sidecar_container_security_context the runAsUser of the base container."
        )
    if state == "missing":
        return Reading("missing", None, ends_sidecar)
    if state == "empty" or content.rstrip() == EMPTY_RESULT.encode():
        return Reading("empty", None, ends_sidecar)
    return Reading("value", parse_json(content, RESULT_FILE), ends_sidecar)


def parse_json(content: bytes, source: str) -> Any:
    """A result as a Python value.

    Args:
        content: UTF-8, or another of the encodings JSON may have.
        source: where it comes from, for messages.

    Raises:
        XComError: it is not JSON; the message tells where, and shows nothing of what may be a secret.
    """
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        problem = f"{error.msg}, at line {error.lineno}, column {error.colno}"
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not {error.encoding}"
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError:
        problem = "it holds a number with too many digits"
    raise XComError(
        f"{source} is not valid JSON ({len(content)} bytes): {problem}. Write JSON to it, or nothing at all."
    )


def _unframed(stdout: bytes) -> tuple[str, int | None, bool, bytes]:
    header, newline, rest = stdout.partition(b"\n")
    words = header.split()
    if len(words) != 4 or words[0] != _HEADER or not newline:
        raise XComError(
            f"The XCom sidecar did not answer as expected ({len(stdout)} bytes): its image needs a POSIX shell as "
            "/bin/sh, with cat and printf. See xcom_sidecar_container_image of the connection."
        )
    if not rest.endswith(_TRAILER):
        expected = f" of {words[2].decode()}" if words[2].isdigit() else ""
        raise XComError(f"The answer of the XCom sidecar was cut: {len(rest)}{expected} bytes arrived.")
    length = int(words[2]) if words[2].isdigit() else None
    return words[1].decode(), length, words[3] != b"-", rest[: -len(_TRAILER)]
