"""A termination message is a report when a launcher has written it, and else a text."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_operator.controller.state import termination
from omni_operator.controller.state.termination import follows, parse
from tests.unit.launcher.contract import SAMPLES, message, reported

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["omni", "code"]), inner),
)


@pytest.mark.parametrize("code", SAMPLES)
def test_what_a_program_writes_is_read(code: str) -> None:
    text = reported(code)
    report = parse(text)
    assert report is not None
    assert (report.version, report.code, report.raw) == (1, code, text)
    assert report.fields == SAMPLES[code]
    assert report.is_readable


def test_launcher_and_operator_mean_the_same_version() -> None:
    assert termination.VERSION == message.VERSION


@pytest.mark.parametrize(
    "text",
    [
        "",
        "OOMKilled, exit code 137",
        "RayUnreachable: the Ray head at x:6379: Connection refused (after 600 s)",
        "null",
        "1",
        '"omni"',
        '["omni", "code"]',
        '{"code": "HeadGone"}',
        '{"omni": 1}',
        '{"omni": "1", "code": "HeadGone"}',
        '{"omni": true, "code": "HeadGone"}',
        '{"omni": 1.0, "code": "HeadGone"}',
        '{"omni": 1, "code": null}',
        '{"omni": 1, "code": "HeadGone", "address": "10.0',
        'omni: {"omni": 1, "code": "HeadGone"}',
        "[" * 4000,
        '{"omni": 1, "code": "HeadGone", "address": ' + "9" * 4300 + "9}",
    ],
)
def test_other_texts_are_no_report(text: str) -> None:
    assert parse(text) is None


@given(text=st.text() | JSON.map(json.dumps))
def test_no_text_is_an_error(text: str) -> None:
    report = parse(text)
    assert report is None or report.raw == text


def test_another_version_is_a_report_whose_code_means_nothing() -> None:
    report = parse('{"omni": 2, "code": "HeadGone"}')
    assert report is not None
    assert (report.version, report.code) == (2, "HeadGone")
    assert not report.is_readable
    assert not follows(report)


@pytest.mark.parametrize("code", SAMPLES)
def test_an_end_that_followed_another_is_no_cause(code: str) -> None:
    report = parse(reported(code))
    assert report is not None
    assert follows(report) is (code in {"HeadRestarted", "HeadGone", "PeerLost"})


def test_a_report_does_not_change() -> None:
    report = parse(reported("HeadGone"))
    assert report is not None
    fields: Any = report.fields
    with pytest.raises(TypeError):
        fields["address"] = "other"
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.code = "Other"  # type: ignore[misc]
