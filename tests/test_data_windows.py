"""Cutting a document into windows and merging them again loses and invents nothing."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data.windows import Span, Window, cut_windows, merge_windows

TEXTS = st.text(alphabet="ab \n\u00e9", max_size=200)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, list[Span], int, int]:
    """A text, spans that do not overlap another of their label, and the sizes of windows and overlaps."""
    text = draw(TEXTS)
    spans = []
    for label in ("A", "B"):
        edges = sorted(draw(st.sets(st.integers(0, len(text)), max_size=12)))
        for start, end in itertools.pairwise(edges):
            if draw(st.booleans()):
                spans.append(Span(start, end, label))
    window = draw(st.integers(2, 12))
    return text, spans, window, draw(st.integers(1, window - 1))


@given(documents())
def test_merging_is_the_inverse_of_cutting(document: tuple[str, list[Span], int, int]) -> None:
    text, spans, window, overlap = document
    windows = cut_windows(text, window, overlap, spans)
    merged = merge_windows(windows)
    assert merged.text == text
    assert merged.spans == tuple(sorted(spans))
    for one in windows:
        assert len(one.text.split()) <= window
        assert all(0 <= span.start < span.end <= len(one.text) for span in one.spans)
    for first, second in itertools.pairwise(windows):
        assert len(text[second.start : first.end].split()) == overlap


@given(documents())
def test_a_span_no_longer_than_the_overlap_is_whole_in_some_window(
    document: tuple[str, list[Span], int, int],
) -> None:
    text, spans, window, overlap = document
    windows = cut_windows(text, window, overlap)
    for span in spans:
        if len(text[: span.end].split()) - len(text[: span.start].split()) < overlap:
            assert any(one.start <= span.start and span.end <= one.end for one in windows)


def test_what_windows_found_is_told_once_with_the_places_of_the_document() -> None:
    text = "one two three four five six"
    windows = cut_windows(text, 4, 2, answer="contract")
    assert [window.text for window in windows] == ["one two three four ", "three four five six"]
    found = [
        Window(windows[0].start, windows[0].text, (Span(8, 18, "N"),), "contract"),
        Window(windows[1].start, windows[1].text, (Span(0, 15, "N"), Span(16, 19, "N")), "letter"),
        Window(windows[1].start, windows[1].text, (), "letter"),
        Window(windows[1].start, windows[1].text, (), None),
    ]
    merged = merge_windows(found[::-1])
    assert [text[span.start : span.end] for span in merged.spans] == ["three four five", "six"]
    assert merged.answers == (("letter", 2), ("contract", 1))


def test_windows_and_spans_that_make_no_sense_are_refused() -> None:
    for window, overlap in ((3, 0), (3, 3), (1, 1)):
        with pytest.raises(ValueError, match="overlap_words"):
            cut_windows("a b c d", window, overlap)
    with pytest.raises(ValueError, match="not inside the text"):
        cut_windows("a b", 3, 1, [Span(0, 9, "x")])
    windows = cut_windows("a b c d e f g h", 3, 1)
    with pytest.raises(ValueError, match="leave a gap"):
        merge_windows([windows[0], windows[2]])
    with pytest.raises(ValueError, match="do not begin"):
        merge_windows(windows[1:])
