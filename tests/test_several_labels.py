"""``kind: tag``: several labels a row, from the file to the answers of every kind of candidate."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support
from sklearn.preprocessing import MultiLabelBinarizer

from report_samples import share, summary
from tag_samples import TELLING, tag_session, tagged, tagged_rows, write_tagged
from tiny import FP32_PLAN, load_tiny, make_tiny_base
from tunesmith.candidates.one_vs_rest import answer_label_models, fit_label_models, tune_label_models
from tunesmith.candidates.plain_texts import constant_text
from tunesmith.candidates.replies import read_labels
from tunesmith.candidates.texts import Writing, answer_by_tuned
from tunesmith.data.audit.checks import run_check
from tunesmith.data.audit.findings import AuditData
from tunesmith.data.formats import open_table
from tunesmith.data.label_sets import label_set_text, labels_of
from tunesmith.data.rows import ColumnsRead, rows_of
from tunesmith.data.splits import SplitSpec, split_rows
from tunesmith.engine.automaton import DEAD
from tunesmith.engine.label_lists import label_lists
from tunesmith.errors import UserError
from tunesmith.evaluation.judging import Judging, label_scores, questions, value_of_labels
from tunesmith.models.loading import LoadedModel
from tunesmith.records import Message, Row, Scorecard
from tunesmith.report.page import write_report
from tunesmith.run_records import LabelScore
from tunesmith.stages.data import make_dataset
from tunesmith.stages.opponents import measure_opponents
from tunesmith.stages.train import train_adapter
from tunesmith.task import load_task

LABELS = tuple(sorted(TELLING))
SPEC = SplitSpec(train=None, validation=0.2, test=60, seed=0, rows_per_group=None, label_sets=True)
some_labels = st.lists(st.sampled_from(LABELS), max_size=4, unique=True)


def read(path: Path, content: str, separator: str | None = None) -> list[str]:
    path.write_text(content, encoding="utf-8")
    columns = ColumnsRead(("text",), "labels", label_sets=True, label_separator=separator)
    return [row.target for row in rows_of(open_table(path, path.name), columns).rows]


def test_a_set_is_one_text_whatever_its_order_in_the_file(tmp_path: Path) -> None:
    sets: list[list[object]] = [["fee", " card"], ["card", "fee"], [], [3, "é"]]
    lines = [json.dumps({"text": f"text {n}", "labels": labels}) for n, labels in enumerate(sets)]
    found = read(tmp_path / "rows.jsonl", "\n".join(lines) + "\n")
    assert found == ['["card", "fee"]', '["card", "fee"]', "[]", '["3", "é"]']


def test_a_csv_holds_labels_parted_by_the_sign_of_the_task_or_json_lists(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "text,labels\nx,fee| card\ny,\nz,fee\n", "|") == [
        '["card", "fee"]',
        "[]",
        '["fee"]',
    ]
    assert read(tmp_path / "b.csv", 'text,labels\nx,"[""fee"", ""card""]"\ny,[]\n') == [
        '["card", "fee"]',
        "[]",
    ]


def test_one_choice_of_several_in_an_annotation_tool_is_a_set_of_one(tmp_path: Path) -> None:
    options = [{"id": label, "text": label} for label in ("fee", "card", "rate")]
    path = tmp_path / "prodigy.jsonl"
    tasks = [
        {"text": f"text {n}", "options": options, "accept": chosen, "answer": "accept", "_view_id": "choice"}
        | {"_input_hash": n, "_task_hash": n, "_annotator_id": "ann", "_session_id": "ann"}
        for n, chosen in enumerate((["fee", "card"], ["fee"]))
    ]
    path.write_text("".join(json.dumps(task) + "\n" for task in tasks), encoding="utf-8")
    columns = ColumnsRead(("text",), "accept", label_sets=True)
    found = [row.target for row in rows_of(open_table(path, path.name), columns).rows]
    assert found == ['["card", "fee"]', '["fee"]']


@pytest.mark.parametrize(
    ("labels", "separator", "told"),
    [
        ("fee", None, "holds 'fee', not a list of labels"),
        ("", None, r"is empty \(write \[\] where no label fits\)"),
        (None, ";", "is null"),
        ({"fee": True}, None, "not a list of labels"),
        (["fee", "card", "fee"], None, "names the label 'fee' twice"),
        ("fee;card;fee", ";", "names the label 'fee' twice"),
        ("fee;;card", ";", "names nothing beside a ';'"),
        ('["fee"]', ";", "needs no data.label_separator"),
        (["fee", " "], None, "as label 2, which is no text"),
        ([["fee"]], None, "as label 1, which is no text"),
        ([0.5], None, "as label 1, which is no text"),
    ],
)
def test_what_is_no_set_of_labels_is_named_with_its_row(
    tmp_path: Path, labels: object, separator: str | None, told: str
) -> None:
    good = json.dumps({"text": "a", "labels": []})
    with pytest.raises(UserError, match=rf"rows\.jsonl:2: the target 'labels' .*{told}"):
        read(tmp_path / "rows.jsonl", f"{good}\n{json.dumps({'text': 'b', 'labels': labels})}\n", separator)


def test_a_list_under_classify_is_told_the_kind_that_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "labels": ["fee"]}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"holds a list, not text .*kind: tag"):
        rows_of(open_table(path, path.name), ColumnsRead(("text",), "labels"))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("none_of_these: {label: nothing}", "none_of_these: a row that no label fits has the empty list"),
        ("json_schema: schema.json", "json_schema: only for kind: extract"),
        ("goal: {gain: 0.02, metric: accuracy}", "'accuracy' is no metric for kind: tag"),
    ],
)
def test_settings_that_do_not_go_with_several_labels(tmp_path: Path, line: str, told: str) -> None:
    text = tag_session(tmp_path).folder.task_file.read_text(encoding="utf-8")
    text = text.replace("goal: {gain: 0.02}\n", "") if line.startswith("goal") else text
    path = tmp_path / "wrong.yaml"
    path.write_text(f"{text}{line}\n", encoding="utf-8")
    with pytest.raises(UserError, match=told):
        load_task(path)


def test_a_separator_is_for_kind_tag_alone(tmp_path: Path) -> None:
    text = tag_session(tmp_path).folder.task_file.read_text(encoding="utf-8")
    text = text.replace("kind: tag", "kind: classify").replace(
        "target: topics", "target: topics, label_separator: ;"
    )
    path = tmp_path / "wrong.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="label_separator: only for kind: tag"):
        load_task(path)


def test_a_rare_label_is_in_every_split_and_labels_are_single_ones() -> None:
    rows = tagged_rows(300)
    # Six rows have "rare", each beside other labels: as whole sets nearly all of them are seen once.
    rows = [
        replace(row, target=label_set_text([*labels_of(row.target), "rare"])) if n % 50 == 0 else row
        for n, row in enumerate(rows)
    ]
    split = split_rows(rows, SPEC)
    shuffled = random.Random(0).sample(rows, len(rows))
    assert split == split_rows(shuffled, SPEC)
    assert split.labels == (*LABELS[:3], "rare", LABELS[3])
    assert split.unmeasured_labels == ()
    for members in (split.train, split.validation, split.test):
        assert any("rare" in labels_of(row.target) for row in members)
    shares = [
        Counter(label for row in members for label in labels_of(row.target))["billing"] / len(members)
        for members in (split.train, split.test)
    ]
    assert shares[0] == pytest.approx(shares[1], abs=0.1)


def test_another_set_for_one_input_is_a_conflict_and_another_order_is_none(tmp_path: Path) -> None:
    lines = [{"text": text, "topics": labels} for text, labels in tagged(280)]
    both = next(line for line in lines if len(line["topics"]) == 2)
    lines.append({"text": both["text"], "topics": both["topics"][::-1]})
    one = next(line for line in lines if len(line["topics"]) == 3)
    lines.append({"text": one["text"], "topics": one["topics"][:1]})
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    manifest = make_dataset(tag_session(tmp_path))[0].manifest
    assert manifest.conflict_groups == 1
    assert manifest.labels == LABELS
    assert manifest.recipe["label_sets"] is True
    assert manifest.splits["train"].conflict_rows == 0


def test_the_audit_counts_labels_and_finds_other_sets_of_like_rows() -> None:
    rows = [replace(row, group="") for row in tagged_rows(200)]
    rows[1] = replace(rows[1], messages=rows[0].messages, target='["billing", "thin"]')
    rows[0] = replace(rows[0], target='["billing"]')
    data = AuditData(tuple(rows), (None,) * len(rows), kind="tag")
    balance, _ = run_check("diversity", data)
    counts = Counter(label for row in rows for label in labels_of(row.target))
    assert f"5 labels of 1 to {max(counts.values())} rows" in balance.summary
    thin = next(finding for finding in balance.findings if finding.kind == "thin labels")
    assert thin.rows == (1,)
    conflicts, _ = run_check("duplicates", data)
    assert conflicts.findings[0].kind == "same input, different targets"
    assert set(conflicts.findings[0].rows) == {0, 1}
    spelling, _ = run_check("label spelling", data)
    assert spelling.answer == "unmeasured"
    assert "any number of labels" in spelling.summary


def test_the_lists_that_can_be_written_are_the_sets_of_labels_each_in_one_way() -> None:
    labels = ('a "b"', "a", "é, c")
    automaton = label_lists(labels)
    subsets = [part for size in range(4) for part in itertools.combinations(labels, size)]
    written = {label_set_text(part) for part in subsets}
    tried = {
        json.dumps(part, ensure_ascii=False)
        for size in range(4)
        for part in itertools.product(labels, repeat=size)
    }
    tried |= {"", "[", '["a",]', '["a","é, c"]', '["b"]', "[] "}
    accepted = set()
    for text in tried | written:
        end = automaton.after(automaton.start, text.encode())
        if end != DEAD and automaton.accepts(end):
            accepted.add(text)
    assert accepted == written


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_tiny(make_tiny_base(tmp_path_factory.mktemp("tag") / "base"))


@pytest.mark.parametrize("limit", [3, 40])
def test_whatever_a_model_prefers_it_writes_a_set_of_the_labels(loaded: LoadedModel, limit: int) -> None:
    rows = tagged_rows(12)
    writing = Writing(loaded, "List the topics.", limit, None, rows, labels=LABELS)
    answers = answer_by_tuned(writing, rows).labels
    for answer in answers:
        assert answer == label_set_text(labels_of(answer))
        assert set(labels_of(answer)) <= set(LABELS)


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        ('["travel", "billing"]', '["billing", "travel"]'),
        ('Here:\n```json\n["Travel"]\n```', '["travel"]'),
        ("Billing, travel.", '["billing", "travel"]'),
        ("[]", "[]"),
        ("I think billing", None),
        ('["billing", "weather"]', None),
    ],
)
def test_what_an_endpoint_says_is_read_as_a_set_or_not_at_all(text: str, read_as: str | None) -> None:
    assert read_labels(text, LABELS) == read_as


def test_one_classifier_for_each_label_learns_them_and_is_fitted_again_the_same() -> None:
    train, validation = tagged_rows(60), tagged_rows(30, seed=4)
    train = [replace(row, target=label_set_text([*labels_of(row.target), "always"])) for row in train]
    validation = [
        replace(row, target=label_set_text([*labels_of(row.target), "always"])) for row in validation
    ]
    value = value_of_labels(Judging("tag", "jaccard", (*LABELS, "always")))
    models, table = tune_label_models(train, validation, value)
    answers = answer_label_models(models, validation).labels
    assert max(reached for _, reached in table) == pytest.approx(value(validation, answers))
    constant = constant_text(train)
    assert value(validation, answers) > value(validation, [str(constant.settings["answer"])] * 30) + 0.2
    assert all("always" in labels_of(answer) for answer in answers)
    again = fit_label_models(models.candidate, train)
    assert answer_label_models(again, validation).labels == answers


def test_the_threshold_is_tuned_to_what_the_goal_wants() -> None:
    train, validation = tagged_rows(60), tagged_rows(30, seed=4)

    def labels_given(rows: Sequence[Row], answers: Sequence[str]) -> float:
        return sum(len(labels_of(answer)) for answer in answers)

    most, _ = tune_label_models(train, validation, labels_given)
    least, _ = tune_label_models(train, validation, lambda rows, answers: -labels_given(rows, answers))
    thresholds = [float(str(models.candidate.settings["threshold"])) for models in (most, least)]
    assert thresholds[0] < thresholds[1]
    own, other = (answer_label_models(models, validation).labels for models in (most, least))
    assert labels_given(validation, own) > labels_given(validation, other)


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(st.tuples(some_labels, some_labels), min_size=4, max_size=20))
def test_scores_of_single_labels_equal_scikit_learn(rows: list[tuple[list[str], list[str]]]) -> None:
    asked = questions(
        Judging("tag", "jaccard", LABELS),
        [
            Row(str(n), f"t:{n}", (Message("user", str(n)),), label_set_text(w), str(n))
            for n, (w, _) in enumerate(rows)
        ],
    )
    table = label_scores(Judging("tag", "jaccard", LABELS), asked, [label_set_text(g) for _, g in rows])
    binariser = MultiLabelBinarizer(classes=LABELS).fit([LABELS])
    wanted, answers = binariser.transform([w for w, _ in rows]), binariser.transform([g for _, g in rows])
    precision, recall, f1, support = precision_recall_fscore_support(wanted, answers, zero_division=0)
    assert {one.label for one in table} == {LABELS[place] for place in np.flatnonzero(support >= 2)}
    for one in table:
        place = LABELS.index(one.label)
        assert one.rows == support[place]
        assert one.precision.value == pytest.approx(precision[place])
        assert one.recall.value == pytest.approx(recall[place])
        assert one.f1.value == pytest.approx(f1[place])
        assert one.f1.low <= one.f1.value + 1e-9 <= one.f1.high + 2e-9


def test_the_report_tells_label_by_label_with_intervals(tmp_path: Path) -> None:
    told = LabelScore("<travel>", 31, share(0.5, 60, 58), share(0.25, 60, 58), share(0.375, 60, 58))
    write_report(replace(summary(), kind="tag", label_scores=(told,)), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    part = page[page.index("Label by label") :]
    assert "&lt;travel&gt;" in part
    assert "37.5" in part
    assert "Most confused labels" not in page
    assert "Without conflicts: n =" in page


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> list[Scorecard]:
    """Every kind of candidate on validation, the tuned one last."""
    home = tmp_path_factory.mktemp("topics")
    make_tiny_base(home / "base")
    write_tagged(home / "rows.jsonl")
    session = tag_session(home)
    dataset, _ = make_dataset(session)
    opponents = measure_opponents(session, dataset, FP32_PLAN)
    assert opponents.finalist_candidates()[0].name.startswith("classical: one ")
    return [*opponents.scorecards, train_adapter(session, dataset, FP32_PLAN).validation]


def test_all_candidates_answer_with_sets_and_are_judged_by_jaccard(cards: list[Scorecard]) -> None:
    kinds = [card.candidate.kind for card in cards]
    assert kinds == ["constant", "classical", "classical", "prompt", "tuned"]
    shown = {"jaccard", "subset_accuracy", "multilabel_micro_f1", "multilabel_macro_f1", "hamming_loss"}
    for card in cards:
        assert shown <= set(card.metrics)
        assert next(iter(card.metrics)) == "jaccard"
        for prediction in card.predictions:
            assert set(labels_of(prediction.answer)) <= set(LABELS)
            assert prediction.correct == (prediction.score == 1.0)
