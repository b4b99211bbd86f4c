"""Runs a function that was sent in the environment, as this program itself was.

Of the image it needs Python 3.6 or newer, and nothing else.
"""

import __future__

import base64
import importlib
import inspect
import json
import linecache
import os
import signal
import sys
import traceback
import zlib
from typing import Any


def received() -> Any:
    """What was sent; it is taken out of the environment, which child processes inherit."""
    text, number = "", 0
    while True:
        piece = os.environ.pop(f"KPO_MULTICLUSTER_FUNCTION_{number}", None)
        if piece is None:
            return json.loads(zlib.decompress(base64.b64decode(text)).decode())
        text, number = text + piece, number + 1


def arguments(sent: Any) -> Any:
    """Positional and keyword arguments."""
    name = sent["serializer"]
    if name == "json":
        return sent["args"], sent["kwargs"]
    try:
        serializer = importlib.import_module(name)
    except ImportError:
        sys.exit(
            "The arguments of {} were sent by serializer={!r}, which this image does not have: install it there, or "
            "leave serializer out.".format(sent["name"], name)
        )
    return serializer.loads(base64.b64decode(sent["arguments"]))


def defined(sent: Any) -> Any:
    """The function; tracebacks show its lines as they are in the DAG file."""
    source = "\n" * (sent["line"] - 1) + sent["source"]
    linecache.cache[sent["file"]] = (len(source), None, source.splitlines(True), sent["file"])
    # Annotations may name what only the DAG file imports. Python 3.6 looks at them all the same.
    feature = getattr(__future__, "annotations", None)
    code = compile(source, sent["file"], "exec", feature.compiler_flag if feature else 0, True)
    names: Any = {"__name__": "__main__", "__file__": sent["file"]}
    exec(code, names)
    return names[sent["name"]]


def write(sent: Any, result: Any) -> None:
    """Leaves the result where the task reads it."""
    if result is None or not sent["result_file"]:
        return
    try:
        # Airflow would not store a NaN, and not say whose it is.
        text = json.dumps(result, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        sys.exit(
            "The result of {} is a {} that JSON does not carry ({}): return texts, numbers, lists and dictionaries of "
            "them, or nothing.".format(sent["name"], type(result).__name__, error)
        )
    directory = os.path.dirname(sent["result_file"])
    if not os.path.isdir(directory):
        os.makedirs(directory)
    with open(sent["result_file"], "w") as file:
        file.write(text)


def main() -> None:
    """Runs it; exits with 1 after an exception."""
    # The first process of a container gets no signal that it does not ask for: it would be killed after its grace.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sent = received()
    args, kwargs = arguments(sent)
    try:
        result = defined(sent)(*args, **kwargs)
        if inspect.iscoroutine(result):
            import asyncio

            result = asyncio.run(result)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is shown without this program's own line
        trace = error.__traceback__
        traceback.print_exception(type(error), error, trace.tb_next if trace else None)
        sys.exit(1)
    write(sent, result)


if __name__ == "__main__":
    main()
