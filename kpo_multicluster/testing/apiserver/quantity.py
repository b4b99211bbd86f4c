"""Quantities such as `500m`, `1.5Gi` and `2`, with the canonical form a server gives back."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal, InvalidOperation

_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?\d+)?")
_NANO = Decimal(1).scaleb(-9)


def parse(text: str) -> Decimal:
    """The value of a quantity; finer than a billionth is rounded up.

    Raises:
        ValueError: the text is no quantity.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(text)
    number, suffix = match.group(1), match.group(2) or ""
    try:
        value = Decimal(number)
    except InvalidOperation:
        raise ValueError(text) from None
    if suffix in _BINARY:
        value *= Decimal(1024) ** _BINARY[suffix]
    elif suffix in _DECIMAL:
        value = value.scaleb(_DECIMAL[suffix])
    else:
        value = value.scaleb(int(suffix[1:]))
    return value.quantize(_NANO, rounding=ROUND_CEILING) if value % _NANO else value


def canonical(text: str) -> str:
    """The form a server gives back: the largest suffix of the same family that leaves a whole number.

    Raises:
        ValueError: the text is no quantity.
    """
    value = parse(text)
    if value == 0:
        return "0"
    binary = text[-1] == "i"
    if binary and value == value.to_integral_value() and abs(value) >= 1024:
        return _scaled_binary(int(value))
    # A binary suffix on a fraction (0.5Ki is 512) falls back to decimal suffixes.
    for suffix, exponent in reversed(_DECIMAL.items()):
        scaled = value.scaleb(-exponent)
        if scaled == scaled.to_integral_value():
            return f"{int(scaled)}{suffix}"
    return f"{int(value.scaleb(9))}n"


def _scaled_binary(value: int) -> str:
    suffix = ""
    for candidate in _BINARY:
        if value % 1024:
            break
        value, suffix = value // 1024, candidate
    return f"{value}{suffix}"
