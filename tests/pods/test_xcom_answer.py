"""Reading what the XCom command printed."""

from __future__ import annotations

from typing import Any

import pytest

from kpo_multicluster.errors import XComError
from kpo_multicluster.pods.xcom import EMPTY_RESULT, Reading, parse_json, parse_result, read_result


def answer(content: bytes, length: object = None, pid: str = "1", state: str = "value") -> bytes:
    size = len(content) if length is None else length
    return f"kpo-xcom {state} {size} {pid}\n".encode() + content + b"\nkpo-xcom end\n"


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b'{"a": [1, null]}', {"a": [1, None]}),
        (b'"text with\\nlines"\n', "text with\nlines"),
        (b"0", 0),
        (b"null", None),
        ('"ü€😀"'.encode(), "ü€😀"),
        (b'\xef\xbb\xbf"with a byte order mark"', "with a byte order mark"),
        ('"sixteen"'.encode("utf-16"), "sixteen"),
        (b'"\nkpo-xcom end\n"'.replace(b"\n", b"\\n"), "\nkpo-xcom end\n"),
        (b'["' + b"x" * 1_000_000 + b'"]', ["x" * 1_000_000]),
    ],
)
def test_results(content: bytes, value: Any) -> None:
    assert read_result(answer(content)) == Reading("value", value, True)
    assert parse_result(answer(content, "-")) == value


@pytest.mark.parametrize(
    ("stdout", "reading"),
    [
        (answer(b"", "-", state="missing"), Reading("missing", None, True)),
        (answer(b"", "-", state="empty"), Reading("empty", None, True)),
        (answer(EMPTY_RESULT.encode() + b"\n"), Reading("empty", None, True)),
        (answer(b"", "-", "-", "missing"), Reading("missing", None, False)),
        (answer(b"1", None, "-"), Reading("value", 1, False)),
    ],
)
def test_no_result_and_no_sidecar(stdout: bytes, reading: Reading) -> None:
    assert read_result(stdout) == reading
    assert parse_result(stdout) == reading.value


@pytest.mark.parametrize("cut", range(1, len(answer(b'{"a": 1}'))))
def test_a_cut_answer_is_noticed_wherever_it_is_cut(cut: int) -> None:
    with pytest.raises(XComError, match=r"cut|did not answer as expected"):
        parse_result(answer(b'{"a": 1}')[:cut])


@pytest.mark.parametrize(
    ("stdout", "message"),
    [
        (b"", r"did not answer as expected \(0 bytes\)"),
        (b"sh: hunter2: not found\n", "did not answer as expected"),
        (answer(b'{"a": 1}', 7), "was 7 bytes long when its reading began, and 8 arrived"),
        (answer(b"", "-", state="unreadable"), "may not be read by the user that the XCom sidecar runs as"),
        (answer(b" \n"), r"is not valid JSON \(2 bytes\): Expecting value, at line 2, column 1"),
        (answer(b'{"hunter2": hunter2}'), "Expecting value, at line 1, column 13"),
        (answer(b'{"a": 1}\n{"hunter2": 2}'), "Extra data, at line 2, column 1"),
        (answer(b'"hunter2 \xff"'), "byte 9 is not utf-8"),
        (answer(b"[" * 100_000), "it is nested too deeply"),
        (answer(b"9" * 10_000), "it holds a number with too many digits|Exceeds"),
    ],
)
def test_errors_tell_where_and_show_nothing(stdout: bytes, message: str) -> None:
    with pytest.raises(XComError, match=message) as caught:
        parse_result(stdout)
    error: BaseException | None = caught.value
    assert "hunter2" not in str(error)
    assert error is not None
    assert error.__cause__ is None
    assert error.__context__ is None


def test_json_from_elsewhere_is_named() -> None:
    with pytest.raises(XComError, match=r"^The termination message is not valid JSON"):
        parse_json(b"{", "The termination message")
