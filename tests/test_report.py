"""Claims about the report: what the page, its figures and the terminal say, and what they never do."""

from __future__ import annotations

import io
import re
import struct
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args
from unittest.mock import patch
from xml.etree import ElementTree

import pytest
from rich.console import Console

from report_samples import hostile_summary, share, summary, thin_summary
from tunesmith.files import content_hash
from tunesmith.records import AuditAnswer, Decision, Estimate
from tunesmith.report import curves, figures, numbers
from tunesmith.report.page import row_accounting, write_report
from tunesmith.report.terminal import plan_lines, print_summary, verdict_lines
from tunesmith.run_records import LongRow, RunSummary, WatchedCourse
from tunesmith.stats.power_guards import guard_power, joint_power

DECISIONS: tuple[Decision, ...] = get_args(Decision)
VOID_TAGS = {"meta"}


class Page(HTMLParser):
    """Tags with attributes, and visible texts in order; ``balanced`` is false when tags do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.balanced = True
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_TAGS | {"br"}:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.balanced &= bool(self._open) and self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and not {"style", "head"} & set(self._open):
            self.texts.append(data.strip())

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


def rendered(run: RunSummary, folder: Path) -> str:
    """The page of ``run``; figures of parts that have been drawn already are not drawn again."""
    with (
        patch.object(curves, "training_plot", once(curves.training_plot)),
        patch.object(figures, "rows_plot", once(figures.rows_plot)),
        patch.object(figures, "forgetting_plot", once(figures.forgetting_plot)),
        patch.object(figures, "probe_plot", once(figures.probe_plot)),
    ):
        return written(run, folder)


def written(run: RunSummary, folder: Path) -> str:
    write_report(run, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


@cache
def once(draw: Callable[[Any, int], str]) -> Callable[[Any, int], str]:
    kept: dict[str, str] = {}

    def drawn(part: Any, width: int) -> str:
        key = content_hash([part, width])
        if key not in kept:
            kept[key] = draw(part, width)
        return kept[key]

    return drawn


@cache
def usual_page(decision: Decision) -> str:
    """The page of the usual run, which several claims are about."""
    with TemporaryDirectory() as folder:
        return rendered(summary(decision), Path(folder))


def all_figures(run: RunSummary) -> list[str]:
    drawn = []
    for width in (720, 350):
        drawn += [
            figures.forest_plot(run, width),
            figures.gain_plot(run, width),
            curves.training_plot(run.training, width),
            figures.rows_plot(run.manifest, width),
            figures.forgetting_plot(run.forgetting, width),
            figures.probe_plot(run.forgetting, width),
        ]
    return drawn


def printed(run: RunSummary, width: int) -> str:
    stream = io.StringIO()
    print_summary(run, Console(file=stream, width=width), Path("runs/report.html"))
    return stream.getvalue()


@pytest.mark.parametrize("decision", DECISIONS)
def test_the_decision_is_the_first_thing_the_page_says(decision: Decision) -> None:
    page = Page(usual_page(decision))
    assert page.texts[0] == decision.replace("'", "’")
    assert not page.texts[1].startswith(decision)  # the sentence does not repeat its headline
    headings = [page.text.index(title) for title in ("How the candidates compare", "Training", "The data")]
    assert headings == sorted(headings)


@pytest.mark.parametrize("run", [summary(), hostile_summary(), thin_summary()])
def test_the_page_is_self_contained_and_well_formed(run: RunSummary, tmp_path: Path) -> None:
    html = rendered(run, tmp_path)
    page = Page(html)
    assert page.balanced
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "image", "object"})
    for _, attributes in page.tags:
        assert "src" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    assert "@import" not in html
    assert set(re.findall(r"https?://[^\s\"<]+", html)) == {"http://www.w3.org/2000/svg"}


def test_texts_from_data_stay_text(tmp_path: Path) -> None:
    run = hostile_summary()
    html = rendered(run, tmp_path)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    text = Page(html).text
    for attack in (run.verdict.sentence, run.losses[0].target, run.confusions[0].answer, run.files[0].name):
        assert attack in text
    assert "more characters)" in text  # a long example says where it was cut
    assert r"$\frac{1}{2}$" in "".join(
        ElementTree.fromstring(figures.forest_plot(run)).itertext()
    )  # nor a formula


def test_every_candidate_appears_with_its_interval_and_n() -> None:
    run = summary("TRAIN")
    text = Page(usual_page("TRAIN")).text
    for card in (*run.opponents, run.tuned_validation, *run.test_scorecards):
        assert card.candidate.name in text
        for metric in (*card.metrics.values(), *card.metrics_without_conflicts.values()):
            if card.split == "test" or metric in card.metrics.values():
                assert numbers.bounds(metric.low, metric.high) in text
                assert numbers.sample(metric.rows, metric.groups) in text
    for gain in run.verdict.gains:
        assert f"n = {numbers.sample(gain.rows, gain.groups)}" in text


def watched_run() -> RunSummary:
    """A run whose metric was watched, that overfitted, and some of whose rows were too long."""
    run = summary()
    rise = Estimate(0.031, 0.012, 0.05, 400, 371, 0.99, "cluster-t")
    sentence = "overfitting since step 141: since then the validation loss rose, +0.031 [-0.012, +0.050]"
    points = tuple(
        replace(point, train_loss=point.loss * 0.7, metric=share(0.8 + point.step / 2000, 256, 240))
        for point in run.training.validation
    )
    long = (
        *(LongRow(f"id-{index}", f"notices.jsonl:{index}", 900 + index, None) for index in range(60)),
        LongRow("id-cut", "notices.jsonl:88", 777, 512),
    )
    course = WatchedCourse("overfitting", sentence, 141, rise, rise, None)
    return replace(run, training=replace(run.training, validation=points, course=course, long_rows=long))


def test_the_course_the_watched_metric_and_long_rows_are_told(tmp_path: Path) -> None:
    run = watched_run()
    page = Page(rendered(run, tmp_path))
    assert page.balanced
    assert "overfitting since step 141: since then the validation loss rose, +0.031 [−0.012" in page.text
    metric = run.training.validation[3].metric
    assert metric is not None
    assert numbers.bounds(metric.low, metric.high) in page.text
    assert "n = 256 rows in 240 groups of validation" in page.text
    assert "60 left out (notices.jsonl:0, " in page.text
    assert "and 50 more); 1 cut (notices.jsonl:88)" in page.text
    assert "id-49" in page.text
    assert "The first 50 of 61" in page.text
    told = printed(run, 200)
    assert "overfitting since step 141" in told
    kept = next(p.metric for p in run.training.validation if p.step == run.training.best_step)
    assert kept is not None
    assert f"task metric there: {numbers.estimate(kept)}".replace("\u00a0", " ") in told
    assert "1 cut (notices.jsonl:88)" in told
    plain = curves.training_plot(summary().training)
    assert curves.training_plot(run.training).count("stroke-dasharray") > plain.count("stroke-dasharray")


def test_how_closely_saved_weights_agree_is_told(tmp_path: Path) -> None:
    run = summary("TRAIN")
    text = Page(usual_page("TRAIN")).text
    assert (
        "of 8 answers are at most 0.03 nats from PEFT's arithmetic and 0.05 nats from those of merged" in text
    )
    unmeasured = replace(run, training=replace(run.training, agreement=None))
    assert "PEFT" not in Page(rendered(unmeasured, tmp_path)).text


def test_checks_are_told_apart_by_word_and_by_shape() -> None:
    html = usual_page("DON'T")
    rows = re.findall(r'<tr><td><span class="answer"><svg.*?</svg>\w+', html, flags=re.DOTALL)
    shapes = {row.rsplit(">", 1)[1]: re.sub(r'(fill|stroke)="#\w+"', "", row) for row in rows}
    assert set(shapes) == {"passed", "failed", "unmeasured"}
    assert len({shape.rsplit("</svg>", 1)[0] for shape in shapes.values()}) == 3


def test_the_forest_plot_marks_validation_hollow_and_the_sealed_test_filled() -> None:
    run = summary()
    plot = figures.forest_plot(run)
    assert ">Validation<" in plot
    assert ">Sealed test<" in plot
    marks = re.findall(r'<use [^>]*style="fill: (#\w+)', plot)
    hollow = len(run.opponents) + 1
    assert marks == ["#ffffff"] * hollow + [m for m in marks[hollow:] if m != "#ffffff"]
    assert len(marks) == hollow + len(run.test_scorecards)


@pytest.mark.parametrize("run", [summary(), hostile_summary()])
def test_every_figure_is_titled_xml_whose_text_is_text(run: RunSummary) -> None:
    ids: Counter[str] = Counter()
    for plot in all_figures(run):
        root = ElementTree.fromstring(plot)
        assert root.get("aria-label") == root.findtext("{http://www.w3.org/2000/svg}title")
        assert root.get("width") == "100%"
        assert root.get("viewBox")
        assert len(root.findall(".//{http://www.w3.org/2000/svg}text")) > 5
        own = {element.get("id") for element in root.iter()} - {None}
        used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', plot))
        assert {first or second for first, second in used} <= own
        ids.update(str(identity) for identity in own)
    assert max(ids.values()) == 1  # figures share a page


def test_equal_summaries_give_equal_bytes_in_any_thread(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(2)]
    with ThreadPoolExecutor(2) as pool:
        pages = list(pool.map(lambda folder: written(summary(), folder), folders))
    assert len(set(pages)) == 1


def test_the_page_says_what_the_audit_of_the_version_answered(tmp_path: Path) -> None:
    checks = (
        AuditAnswer("labels", "failed", 2, 12),
        AuditAnswer("unusable rows", "failed", 1, 0),
        AuditAnswer("size", "unmeasured", 0, 0),
    )
    run = summary()
    page = rendered(replace(run, manifest=replace(run.manifest, checks=checks)), tmp_path)
    assert "source: 2 failed (labels: 12 rows, unusable rows: 1 finding); 1 unmeasured.</dd>" in page
    assert "<dt>Audit</dt>" not in usual_page("TRAIN")


def test_examples_are_said_to_be_from_validation() -> None:
    text = Page(usual_page("TRAIN")).text
    examples = text.index("Most confused labels")
    assert "From validation, never from the sealed test." in text[:examples]
    assert text.index("lgpl-2.1-plus_149.RULE") > examples


def test_what_was_not_measured_is_called_unmeasured_and_not_drawn(tmp_path: Path) -> None:
    run = thin_summary()
    text = Page(rendered(run, tmp_path)).text
    assert "interval unmeasured" in text
    assert text.count("None on validation.") == 3
    assert "general text and probes were not scored" in text
    plot = figures.probe_plot(summary().forgetting)
    assert plot.count("unmeasured: base at chance") == 2
    assert len(re.findall(r"<use ", plot)) == 3  # five probes, two of them at chance


def test_the_plan_tells_whether_blocking_guards_can_pass(tmp_path: Path) -> None:
    guards = [guard_power("all text", 177, 155, 0.03, spread, 0.03) for spread in (0.03, 0.2)]
    run = summary()
    plan = replace(run.plan, guards=tuple(joint_power([guard], 0.03) for guard in guards))
    write_report(replace(run, plan=plan), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "177 items in 155 groups" in page
    assert "none" in page[page.index("177 items") :]  # the rough guard passes no loss 8 times in 10
    stream = io.StringIO()
    Console(file=stream, width=300).print(plan_lines(plan))
    chances = [round(100 * guard.chance_if_unchanged) for guard in guards]
    assert f"all 1 blocking guards with a chance of {chances[1]} to {chances[0]} %" in stream.getvalue()
    assert "the weakest is all text" in stream.getvalue()


def test_a_change_on_fewer_than_fifty_groups_is_unmeasured() -> None:
    item = summary().forgetting[0]
    assert numbers.unmeasured_because(item) is None
    few = replace(item, change=replace(item.change, groups=49))
    assert numbers.unmeasured_because(few) == "fewer than 50 groups"
    assert "unmeasured: fewer than 50 groups" in figures.forgetting_plot([few])


def test_rows_that_do_not_add_up_are_reported() -> None:
    manifest = summary().manifest
    assert "together all 34,859 rows read" in row_accounting(manifest)
    assert "does not explain the rest" in row_accounting(replace(manifest, source_rows=40_000))


def test_the_readme_picture_has_double_resolution(tmp_path: Path) -> None:
    figures.forest_plot_png(summary(), tmp_path / "forest.png")
    head = (tmp_path / "forest.png").read_bytes()[:24]
    assert struct.unpack(">I", head[16:20]) == (1440,)


@pytest.mark.parametrize("width", [40, 80, 140])
@pytest.mark.parametrize("run", [summary(), hostile_summary(), thin_summary()])
def test_the_terminal_version_fits_and_is_plain(run: RunSummary, width: int) -> None:
    text = printed(run, width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    for stage in ("data", "plan", "opponents", "train", "verdict", "report"):
        assert re.search(rf"(?m)^{stage} ", text)
    assert run.verdict.decision in text


def test_the_terminal_reads_no_markup_from_data() -> None:
    assert "[red]" in printed(hostile_summary(), 140)


@pytest.mark.parametrize("decision", DECISIONS)
def test_the_decision_stands_out_in_the_terminal(decision: Decision) -> None:
    run, stream = summary(decision), io.StringIO()
    console = Console(file=stream, width=100, force_terminal=True, color_system="standard")
    console.print(verdict_lines(run.verdict, run.test_scorecards, run.forgetting))
    assert re.search(rf"\x1b\[[0-9;]*7[0-9;]*m {decision} \x1b", stream.getvalue())  # 7: reverse video


def test_the_sample_of_a_table_is_that_of_candidates_asked_every_row(tmp_path: Path) -> None:
    run = summary()
    first, *others = run.test_scorecards
    few = {name: replace(one, rows=7, groups=7) for name, one in first.metrics.items()}
    behind = replace(others[-1] if others else first, metrics=few, stopped_after_rows=7)
    html = rendered(replace(run, test_scorecards=(first, behind)), tmp_path)
    assert "7 rows: clearly behind on validation" in html
    assert "Sealed test: n = 7 rows" not in html


def test_learned_tokens_are_marked_changes_are_told_and_exports_are_listed() -> None:
    page = usual_page("TRAIN")
    assert "&lt;|im_start|&gt;user\nMIT is enough.\n<mark>mit&lt;|im_end|&gt;</mark></pre>" in page
    text = " ".join(Page(page).text.split())
    assert "31 rows went, 2 rows changed" in text
    assert "mit_19.RULE" in text
    assert "tunesmith data diff licence-notices" in text
    assert "all of them; CSV" in text


def test_a_page_says_why_there_is_nothing_to_compare_or_to_show(tmp_path: Path) -> None:
    text = " ".join(Page(rendered(thin_summary(), tmp_path)).text.split())
    assert "train.parquet: edited after the freeze" in text
    assert "Not shown: smollm2 answers by a classification head." in text
    assert "No file was exported of this version yet." in text
    story = summary().version_story
    assert story is not None
    first = rendered(replace(summary(), version_story=replace(story, since=None)), tmp_path)
    assert "Since the last version" not in first
