"""Kubernetes quantities as exact numbers, and back in the API server's canonical form."""

from __future__ import annotations

import re
from decimal import Decimal

_FACTORS = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(1000), "M": Decimal(10) ** 6, "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12, "P": Decimal(10) ** 15, "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10, "Mi": Decimal(2) ** 20, "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40, "Pi": Decimal(2) ** 50, "Ei": Decimal(2) ** 60,
}  # fmt: skip
KIB, MIB = 1 << 10, 1 << 20
_BINARY = ("Ti", "Gi", "Mi", "Ki")
_FORM = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([eE][+-]?[0-9]+)|([numkMGTPE]|[KMGTPE]i)?)")


def parse(quantity: str | int) -> Decimal:
    """The number behind a quantity such as 500m or 2Gi.

    Raises:
        ValueError: The text is not a quantity.
    """
    match = _FORM.fullmatch(str(quantity))
    if match is None:
        msg = f"not a quantity: {quantity!r}"
        raise ValueError(msg)
    number, exponent, suffix = match.groups()
    return Decimal(number + (exponent or "")) * _FACTORS[suffix or ""]


def binary(size: int) -> str:
    """Bytes in the largest binary unit that divides them, as the API server writes them."""
    unit = next((u for u in _BINARY if size and size % int(_FACTORS[u]) == 0), "")
    return f"{size // int(_FACTORS[unit])}{unit}"


def about(size: int) -> str:
    """Bytes for people: 477Mi for 500M.

    In the largest binary unit that divides them or leaves two digits.
    """
    unit = next((u for u in _BINARY if size >= 10 * _FACTORS[u]), "")
    exact = binary(size)
    return exact if len(exact) <= len(rounded := f"{round(size / _FACTORS[unit])}{unit}") else rounded


def round_up(size: int, *, to: int) -> int:
    """The least multiple of `to` that is at least `size`."""
    return -(-size // to) * to


def same(one: str | int, other: str | int) -> bool:
    """Whether two texts are the same quantity (1000m and 1)."""
    try:
        return parse(one) == parse(other)
    except ValueError:
        return False
