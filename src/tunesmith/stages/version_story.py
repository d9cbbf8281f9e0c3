"""What a report tells about the frozen version: what became of the data since the last one, rows, exports."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.data.audit.findings import PRIVATE_CHECKS
from tunesmith.data.audit.privacy import PrivacySettings, all_spans
from tunesmith.data_records import (
    HowEarlier,
    MaskedRow,
    RowChanges,
    RowExample,
    SinceVersion,
    VersionStory,
)
from tunesmith.errors import UserError
from tunesmith.records import Dataset, Row
from tunesmith.stages.data_care import EXCERPT_CHARACTERS, excerpt, private_rows
from tunesmith.stages.masks import masked_rows, visible
from tunesmith.stages.session import Session
from tunesmith.stages.versions import EXPORT_FORMATS, compare_versions, frozen_versions, read_exports
from tunesmith.workspace import TaskFolder, cached, stage_key

if TYPE_CHECKING:
    from tunesmith.data.differences import Difference, RowDifference

PACKAGES = (
    "tunesmith.data",
    "tunesmith.models",
    "tunesmith.stages.data_care",
    "tunesmith.stages.masks",
    "tunesmith.stages.version_story",
    "tunesmith.training.long_rows",
)
WHAT = ("came", "went", "changed", "moved")
REASONS_SHOWN = 8
EXAMPLES = 2
# Of the training rows, ordered by length: a short one, a usual one, a long one.
LENGTHS_SHOWN = (0.05, 0.5, 0.95)
ROWS_TRIED = 1_000
HEAD_CHARACTERS, TAIL_CHARACTERS = 480, 160
CONTEXT_CHARACTERS = 40


@dataclass(frozen=True)
class _Seen:
    rows: tuple[MaskedRow, ...]


def story_of_version(session: Session, dataset: Dataset) -> VersionStory:
    """What ``data diff``, ``data show --mask`` and ``data export`` have to say about the version.

    No test row is read, and no row is quoted that holds private data. Raises UserError when the notes of
    exports were edited.
    """
    masked, unmasked = _rows_as_seen(session, dataset)
    version = dataset.manifest.version
    exports = tuple(one for one in read_exports(session.folder) if one.version == version)
    return VersionStory(_since(session, dataset), masked, unmasked, exports, EXPORT_FORMATS)


def earlier_version(folder: TaskFolder, dataset: Dataset) -> tuple[str, HowEarlier] | None:
    """The version to compare with, of those that are still on disk; None where there is none.

    It is the one that was frozen last before this one was frozen first; of a first version that was repaired,
    the one before its repair.
    """
    version, frozen = dataset.manifest.version, frozen_versions(folder)
    before = frozen[: frozen.index(version)] if version in frozen else frozen
    if kept := [name for name in before if _on_disk(folder, name)]:
        return kept[-1], "frozen before this one"
    if parents := [name for name in dataset.manifest.parents if _on_disk(folder, name)]:
        return parents[-1], "the same data before its repair"
    return None


def changes_since(
    difference: Difference, how: HowEarlier, private: Collection[str], settings: PrivacySettings
) -> SinceVersion:
    """The most frequent reasons for which rows differ, with examples.

    Of ``private`` rows, and of texts in which patterns find private data, only the places are told.
    """
    grouped: defaultdict[tuple[str, str, str], list[RowDifference]] = defaultdict(list)
    for row in difference.rows:
        grouped[row.what, row.split, row.why].append(row)
    order = sorted(grouped, key=lambda key: (-len(grouped[key]), WHAT.index(key[0]), key))
    counts: Counter[str] = Counter(row.what for row in difference.rows)
    return SinceVersion(
        difference.first,
        how,
        difference.same_test,
        {what: counts[what] for what in WHAT if counts[what]},
        tuple(
            RowChanges(
                *key,
                len(grouped[key]),
                tuple(_example(row, private, settings) for row in grouped[key][:EXAMPLES]),
            )
            for key in order[:REASONS_SHOWN]
        ),
        sum(len(grouped[key]) for key in order[REASONS_SHOWN:]),
    )


def rows_to_show(rows: Sequence[Row], private: Collection[str], settings: PrivacySettings) -> list[Row]:
    """A short, a usual and a long row, the same ones each time, none of which is known to be private."""
    ordered = sorted(rows, key=lambda row: (len(row.text) + len(row.target), row.id))
    chosen: dict[str, Row] = {}
    for share in LENGTHS_SHOWN:
        place = int(share * len(ordered))
        near = [*ordered[place : place + ROWS_TRIED], *reversed(ordered[:place][-ROWS_TRIED:])]
        for row in near:
            texts = (row.text, row.target, row.rejected or "")
            if row.source not in chosen and row.id not in private and not _holds_private(texts, settings):
                chosen[row.source] = row
                break
    return list(chosen.values())


def _since(session: Session, dataset: Dataset) -> SinceVersion | None:
    from tunesmith.data.versions import load_dataset, read_repairs

    found = earlier_version(session.folder, dataset)
    if found is None:
        return None
    earlier, how = found
    version, settings = dataset.manifest.version, _privacy(session)
    inputs = {"version": version, "earlier": earlier, "how": how, "privacy": settings}
    folder = session.folder.stage("version-changes", stage_key("version-changes", inputs, PACKAGES))

    def compared(_: Path) -> SinceVersion:
        difference = compare_versions(session.folder, earlier, version)
        before = load_dataset(_place(session.folder, earlier))
        repairs = [*read_repairs(before), *read_repairs(dataset)]
        private = {change.row for change in repairs if change.check in PRIVATE_CHECKS}
        return changes_since(difference, how, private, settings)

    try:
        return cached(folder, SinceVersion, compared)[0]
    except UserError as error:  # the earlier version was edited, which is no fault of this run
        return SinceVersion(earlier, how, None, {}, (), 0, f"{error.what}; {error.fix}")


def _rows_as_seen(session: Session, dataset: Dataset) -> tuple[tuple[MaskedRow, ...], str | None]:
    from tunesmith.data.versions import read_split

    private, settings = private_rows(session), _privacy(session)
    inputs = {
        "version": dataset.manifest.version,
        "task": session.task.model_dump(),
        "base": session.base().sha256,
        "private": sorted(private),
        "privacy": settings,
    }
    folder = session.folder.stage("rows-as-seen", stage_key("rows-as-seen", inputs, PACKAGES))

    def masked(_: Path) -> _Seen:
        chosen = rows_to_show(read_split(dataset, "train"), private, settings)
        seen = masked_rows(session, chosen, trained=True)
        # Of a long document its first window.
        first = (next(one for one in seen if one.source in (row.source, f"{row.source}#1")) for row in chosen)
        return _Seen(tuple(shortened(one) for one in first))

    try:
        found = cached(folder, _Seen, masked)[0].rows
    except UserError as error:  # a classification head
        return (), error.what
    return found, None if found else "each of the training rows that were looked at holds private data"


def _on_disk(folder: TaskFolder, version: str) -> bool:
    return (_place(folder, version) / "manifest.json").is_file()


def _place(folder: TaskFolder, version: str) -> Path:
    from tunesmith.data.versions import VERSION_CHARACTERS

    return folder.datasets / version[:VERSION_CHARACTERS]


def _privacy(session: Session) -> PrivacySettings:
    return PrivacySettings(session.task.audit.phone_regions)


def _holds_private(texts: Sequence[str | None], settings: PrivacySettings) -> bool:
    return any(all_spans(text, settings.phone_regions) for text in texts if text)


def _example(row: RowDifference, private: Collection[str], settings: PrivacySettings) -> RowExample:
    if row.row in private or _holds_private((row.before, row.after), settings):
        return RowExample(row.source, None, None)
    before, after = _where_they_differ(row.before, row.after)
    return RowExample(row.source, before, after)


def _where_they_differ(before: str | None, after: str | None) -> tuple[str | None, str | None]:
    """Both texts, cut to where they begin to differ if that is further on than an excerpt reaches."""
    if before is None or after is None:
        return (before and excerpt(before), after and excerpt(after))
    same = next(
        (place for place, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]),
        min(len(before), len(after)),
    )
    if same < EXCERPT_CHARACTERS - CONTEXT_CHARACTERS:
        return excerpt(before), excerpt(after)
    start = same - CONTEXT_CHARACTERS
    return f"…{excerpt(before[start:])}", f"…{excerpt(after[start:])}"


def shortened(row: MaskedRow) -> MaskedRow:
    """``row`` without control characters, and without the middle of long texts: reports should stay small."""
    return replace(
        row, parts=tuple(replace(part, text=_middle_left_out(visible(part.text))) for part in row.parts)
    )


def _middle_left_out(text: str) -> str:
    left_out = len(text) - HEAD_CHARACTERS - TAIL_CHARACTERS
    if left_out <= TAIL_CHARACTERS:
        return text
    return f"{text[:HEAD_CHARACTERS]} … ({left_out:,} more characters) … {text[-TAIL_CHARACTERS:]}"
