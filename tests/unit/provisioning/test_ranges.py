"""RFC 9110 §13 and §14 over numbers: which part of a file is sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.provisioning.ranges import Part, part_of

TAG = '"abc"'
WHOLE = Part(200, 0, 9999)
WHOLE_PART = Part(206, 0, 9999)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, WHOLE), ("bytes=0-", Part(206, 0, 9999)), ("bytes=0-0", Part(206, 0, 0)),
        ("bytes=9500-", Part(206, 9500, 9999)), ("bytes=-500", Part(206, 9500, 9999)),
        ("bytes=-20000", Part(206, 0, 9999)), ("bytes=0-99999", Part(206, 0, 9999)), ("BYTES = 1 - 2", Part(206, 1, 2)),
        ("bytes=10000-", Part(416)), ("bytes=10000-10001", Part(416)), ("bytes=-0", Part(416)),
        ("bytes=5-4", WHOLE), ("bytes=0-1,5-6", WHOLE), ("bytes=", WHOLE), ("bytes=-", WHOLE), ("lines=0-1", WHOLE),
        ("bytes=a-b", WHOLE), ("bytes=0x10-", WHOLE), ("bytes=1-2-3", WHOLE), ("bytes=٣-", WHOLE),
        ("bytes=" + "9" * 30 + "-", Part(416)), ("bytes=0-" + "9" * 30, WHOLE_PART), ("bytes=-" + "9" * 30, WHOLE_PART),
    ],
)  # fmt: skip
def test_a_range_is_honoured_refused_or_ignored_as_the_standard_says(header, expected):
    """P-13: RFC 9110 §14.1 and §14.2."""
    assert part_of(10_000, TAG, range_header=header) == expected


@pytest.mark.parametrize(
    ("if_range", "status"),
    [
        (TAG, 206),
        (f" {TAG} ", 206),
        ('W/"abc"', 200),
        ('"abd"', 200),
        ("Sun, 22 Nov 2026 00:00:00 GMT", 200),
        ("", 200),
    ],
)
def test_a_range_counts_only_for_the_file_it_began_with(if_range, status):
    """P-13: RFC 9110 §13.1.5; the comparison is the strong one."""
    assert part_of(10_000, TAG, range_header="bytes=5-9", if_range=if_range).status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if_none_match": TAG}, 304), ({"if_none_match": '"x", W/"abc"'}, 304), ({"if_none_match": "*"}, 304),
        ({"if_none_match": '"x"'}, 200), ({"if_match": TAG}, 200), ({"if_match": 'W/"abc"'}, 412),
        ({"if_match": '"x"'}, 412), ({"if_match": "*"}, 200), ({"if_match": '"x"', "if_none_match": TAG}, 412),
        ({"if_none_match": TAG, "range_header": "bytes=0-1"}, 304),
    ],
)  # fmt: skip
def test_preconditions_come_first(headers, status):
    """P-13: RFC 9110 §13.2.2."""
    assert part_of(10_000, TAG, **headers).status == status


@given(st.integers(1, 10**9), st.text(max_size=30) | st.from_regex(r"bytes=\d{0,5}-\d{0,5}", fullmatch=True))
def test_whatever_is_asked_lies_within_the_file(size, header):
    part = part_of(size, TAG, range_header=header)
    assert part.status in {200, 206, 416}
    assert part.status == 416 or 0 <= part.first <= part.last < size
    assert part.status != 200 or part.length == size
