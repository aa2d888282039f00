"""Quantities as the API server reads and writes them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_operator.topology.quantity import binary, parse, same


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", "0"), (3, "3"), ("500m", "0.5"), ("1k", "1000"), ("1Ki", "1024"), ("1.5Gi", "1610612736"),
        (".5", "0.5"), ("5.", "5"),
        ("1e3", "1000"), ("1E3", "1000"), ("1E", "1e18"), ("2Ei", "2305843009213693952"), ("-1", "-1"),
        ("+2M", "2000000"), ("12e-1", "1.2"),
        ("100n", "0.0000001"), ("1u", "0.000001"),
    ],
)  # fmt: skip
def test_parse(text: str | int, number: str) -> None:
    assert parse(text) == Decimal(number)


@pytest.mark.parametrize(
    "text", ["", "Gi", "1 Gi", "1gi", "1KB", "0x10", "1.2.3", "..", ".", "1e", "1e1.5", "1Gi\n", "٣", "nan", "-"]
)
def test_what_is_no_quantity_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        parse(text)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0"), (1, "1"), (1024, "1Ki"), (1 << 30, "1Gi"), (3 << 29, "1536Mi"), (1025, "1025")]
)
def test_binary(size: int, text: str) -> None:
    assert binary(size) == text


@given(st.integers(0, 1 << 50))
def test_binary_loses_nothing(size: int) -> None:
    assert parse(binary(size)) == size


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("1000m", "1", True),
        (1, "1", True),
        ("1Gi", "1024Mi", True),
        ("1G", "1Gi", False),
        ("x", "x", False),
        ("1", "1.2.3", False),
    ],
)
def test_same(one: str | int, other: str | int, equal: bool) -> None:
    assert same(one, other) is equal
