"""What is sent to a pod that runs a function: its source and arguments, in environment variables."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.resources import files
from typing import Any, Final

from kpo_multicluster.decorators.function_source import FunctionSource
from kpo_multicluster.errors import ConfigurationError

SERIALIZERS: Final = ("json", "pickle", "dill", "cloudpickle")
VARIABLE: Final = "KPO_MULTICLUSTER_FUNCTION_"
PROGRAM_VARIABLE: Final = "KPO_MULTICLUSTER_PROGRAM"
# Short, as logs and `kubectl describe` show it. All that is sent is taken out of the environment.
BOOTSTRAP: Final = (
    f"import base64, os, zlib; exec(zlib.decompress(base64.b64decode(os.environ.pop('{PROGRAM_VARIABLE}'))).decode())"
)
# Linux takes no environment variable over 128 KiB.
_PIECE_CHARACTERS: Final = 96 * 1024
# An API server takes no object over 1.5 MiB.
_LIMIT_CHARACTERS: Final = 1024 * 1024


def payload(
    function: FunctionSource,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    serializer: str,
    result_file: str | None,
) -> list[dict[str, str]]:
    """The environment of a container that runs a function.

    Args:
        function: to run.
        args: positional arguments.
        kwargs: keyword arguments.
        serializer: of the arguments, one of `SERIALIZERS`.
        result_file: where the function's result goes; None for nowhere.

    Raises:
        ConfigurationError: an argument cannot be sent, or there is too much of them.
    """
    told = {"name": function.name, "source": function.text, "file": function.file, "line": function.line}
    sent: dict[str, Any] = {**told, "serializer": serializer, "result_file": result_file}
    if serializer == "json":
        sent["args"] = [_plain(value, f"Argument {place} of {function.name}") for place, value in enumerate(args)]
        sent["kwargs"] = {
            name: _plain(value, f"Argument {name!r} of {function.name}") for name, value in kwargs.items()
        }
    else:
        sent["arguments"] = base64.b64encode(_serialized(function.name, args, kwargs, serializer)).decode()
    text = _packed(json.dumps(sent).encode())
    if len(text) > _LIMIT_CHARACTERS:
        raise ConfigurationError(
            f"The source and arguments of {function.name} are {len(text):,} characters long when packed, and a pod "
            f"takes {_LIMIT_CHARACTERS:,} of them: leave the data in a store that the pod can read, and pass its path."
        )
    pieces = [text[start : start + _PIECE_CHARACTERS] for start in range(0, len(text), _PIECE_CHARACTERS)]
    numbered = [{"name": f"{VARIABLE}{number}", "value": piece} for number, piece in enumerate(pieces)]
    return [{"name": PROGRAM_VARIABLE, "value": _program()}, *numbered]


def _program() -> str:
    return _packed(files(__package__).joinpath("in_pod.py").read_bytes())


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode()


def _plain(value: Any, where: str) -> Any:
    """A value as JSON carries it; a tuple becomes a list."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ConfigurationError(
                    f"{where} has the key {key!r} of type {type(key).__name__}: JSON carries texts only. Use texts as "
                    "keys, or another serializer."
                )
        return {key: _plain(value[key], f"{where}[{key!r}]") for key in value}
    # The results of a mapped task are a sequence that is read as it is gone through.
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return [_plain(entry, f"{where}[{number}]") for number, entry in enumerate(value)]
    raise ConfigurationError(
        f"{where} is of type {type(value).__name__}, which JSON does not carry: pass texts, numbers, lists and "
        "dictionaries of them (such as isoformat() of a time), or give serializer='pickle', 'dill' or 'cloudpickle'."
    )


def _serialized(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], serializer: str) -> bytes:
    try:
        module = import_module(serializer)
    except ImportError:
        raise ConfigurationError(
            f"serializer={serializer!r} of {name} is not installed where the task runs: pip install {serializer}, in "
            "the pod's image as well."
        ) from None
    try:
        packed: bytes = module.dumps(
            ([_read(value) for value in args], {key: _read(value) for key, value in kwargs.items()})
        )
    except Exception as error:
        raise ConfigurationError(
            f"The arguments of {name} cannot be sent by serializer={serializer!r}: {type(error).__name__}: {error}."
        ) from error
    return packed


def _read(value: Any) -> Any:
    """The results of a mapped task as a list: what reads them is not there in the pod."""
    lazy = isinstance(value, Sequence) and type(value).__module__.startswith("airflow.")
    return list(value) if lazy else value
