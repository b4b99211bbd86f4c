"""Label and field selectors, as list, watch and deletecollection take them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kpo_multicluster.testing.apiserver.naming import label_key_problems, label_value_problems
from kpo_multicluster.testing.apiserver.status import bad_request, invalid_value

Matches = Callable[[Mapping[str, Any]], bool]

_TOKEN = re.compile(r"\s*(==|!=|[=!(),<>]|[^\s=!(),<>]+)")
_OPERATORS = "in, notin, =, ==, !=, gt, lt"
_SYMBOLS = frozenset("=!(),<>") | {"==", "!="}


@dataclass(frozen=True)
class _Requirement:
    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        present = self.key in labels
        if self.operator == "exists":
            return present
        if self.operator == "absent":
            return not present
        if self.operator == "notin":
            return not present or labels[self.key] not in self.values
        if self.operator in ("gt", "lt"):
            return present and _compares(labels[self.key], self.operator, next(iter(self.values)))
        return present and labels[self.key] in self.values


def _compares(label: str, operator: str, bound: str) -> bool:
    try:
        return int(label) > int(bound) if operator == "gt" else int(label) < int(bound)
    except ValueError:
        return False


class _LabelParser:
    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.findall(text)
        self._at = 0

    def peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def next(self) -> str:
        token = self.peek()
        self._at += 1
        return token

    def parse(self) -> list[_Requirement]:
        requirements: list[_Requirement] = []
        while self.peek():
            if self.peek() != "!" and self.peek() in _SYMBOLS:
                raise bad_request(f"found '{self.peek()}', expected: !, identifier, or 'end of string'")
            requirements.append(self._requirement())
            token = self.next()
            if token not in (",", ""):
                raise bad_request(f"found '{token}', expected: ',' or 'end of string'")
            if token == "," and (not self.peek() or (self.peek() != "!" and self.peek() in _SYMBOLS)):
                raise bad_request(f"found '{self.peek()}', expected: identifier after ','")
        return requirements

    def _requirement(self) -> _Requirement:
        if negated := self.peek() == "!":
            self.next()
        key = self.next()
        for problem in label_key_problems(key):
            raise bad_request(f"unable to parse requirement: {invalid_value('key', key, problem)}")
        if negated:
            return _Requirement(key, "absent")
        if self.peek() in (",", ""):
            return _Requirement(key, "exists")
        return self._comparison(key, self.next())

    def _comparison(self, key: str, operator: str) -> _Requirement:
        if operator in ("in", "notin"):
            return self._checked(_Requirement(key, operator, self._set()))
        if operator not in ("=", "==", "!=", ">", "<"):
            raise bad_request(f"unable to parse requirement: found '{operator}', expected: {_OPERATORS}")
        # "key=" compares with the empty value.
        value = "" if self.peek() in (",", "") else self.next()
        names = {"=": "in", "==": "in", "!=": "notin", ">": "gt", "<": "lt"}
        return self._checked(_Requirement(key, names[operator], frozenset((value,))))

    def _set(self) -> frozenset[str]:
        if (token := self.next()) != "(":
            raise bad_request(f"unable to parse requirement: found '{token}' expected: '('")
        values: set[str] = set()
        while True:
            values.add("" if self.peek() in (",", ")") else self.next())
            token = self.next()
            if token == ")":
                return frozenset(values)
            if token != ",":
                raise bad_request(f"unable to parse requirement: found '{token}', expected: ',' or ')'")

    @staticmethod
    def _checked(requirement: _Requirement) -> _Requirement:
        for index, value in enumerate(sorted(requirement.values)):
            for problem in label_value_problems(value):
                field = f"values[{index}][{requirement.key}]"
                raise bad_request(f"unable to parse requirement: {invalid_value(field, value, problem)}")
        return requirement


def label_selector(text: str) -> Matches:
    """Whether an object's labels match; empty text matches all.

    Raises:
        StatusError: 400, the text is no label selector.
    """
    requirements = _LabelParser(text).parse()

    def matches(item: Mapping[str, Any]) -> bool:
        labels = item.get("metadata", {}).get("labels") or {}
        return all(requirement.matches(labels) for requirement in requirements)

    return matches


def field_selector(text: str, fields: Mapping[str, Callable[[Mapping[str, Any]], str]]) -> Matches:
    """Whether an object's fields match; empty text matches all.

    Args:
        text: terms `path=value`, `path==value` or `path!=value`, joined by commas.
        fields: the paths this resource can be selected by, with how to read each.

    Raises:
        StatusError: 400, the text is no field selector, or names another path.
    """
    terms: list[tuple[str, bool, str]] = []
    for term in filter(None, re.split(r"(?<!\\),", text)):
        parsed = re.fullmatch(r"(.*?)(!=|==|=)(.*)", term, re.DOTALL)
        if parsed is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
        path, operator, value = parsed.groups()
        if path not in fields:
            raise bad_request(f"field label not supported: {path}")
        terms.append((path, operator != "!=", re.sub(r"\\([\\,=])", r"\1", value)))

    def matches(item: Mapping[str, Any]) -> bool:
        return all((fields[path](item) == value) is equal for path, equal, value in terms)

    return matches
