"""The study of curated against noisy data: what it plants is found, and its arms are comparable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from arms import ARMS, Curation, Fate, Trained, curate, for_tokens
from compare import Study, run_seed
from comparison import write_page
from planting import KINDS, SHARES, plant
from sets import DataSet, Sizes, draw
from tiny import make_tiny_base, toy_rows
from tunesmith.files import read_record, write_json
from tunesmith.task.train_settings import TrainSettings

LABELS = ("billing", "delivery", "refund", "greeting")
SIZES = Sizes(pool=120, beside=110, test=20, tokens=900)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataSet]:
    cache = tmp_path_factory.mktemp("cache")
    base = make_tiny_base(tmp_path_factory.mktemp("base") / "tiny")
    rows = tuple((row.text, row.target) for row in toy_rows(250, LABELS, seed=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_CACHE", str(cache))
        yield DataSet("toy", "Name the team.", "Which team?", str(base), rows)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all, so that the pool of seed 0 is audited once."""
    return tmp_path_factory.mktemp("work")


def test_every_kind_of_noise_is_planted_in_its_share_and_nothing_else_changes() -> None:
    clean = [(row.text, row.target) for row in toy_rows(200, LABELS, seed=3)]
    rows = plant(clean, seed=0)
    for kind in KINDS:
        assert sum(row.planted == kind for row in rows) == round(SHARES[kind] * 200)
    before = set(clean)
    assert all((row.true_text, row.true_label) in before for row in rows if row.planted != KINDS[1])
    untouched = [row for row in rows if row.planted is None]
    assert all((row.text, row.label) in before for row in untouched)
    assert {row.planted for row in rows if row.wrong} == {"wrong label", "contradicting copy"}
    cut = [row for row in rows if row.planted == "truncated text"]
    assert all(row.true_text.startswith(row.text) and row.text != row.true_text for row in cut)
    assert rows == plant(clean, seed=0) != plant(clean, seed=1)


def test_rows_for_a_budget_are_whole_passes_and_never_exceed_it() -> None:
    lengths = [3, 5, 7, 4]
    chosen = for_tokens(lengths, tokens=50, seed=0)
    assert sorted(chosen[:4]) == sorted(chosen[4:8]) == [0, 1, 2, 3]
    assert 50 - max(lengths) < sum(lengths[index] for index in chosen) <= 50


def test_planted_noise_is_removed_far_better_than_chance(data: DataSet, work: Path) -> None:
    drawn = draw(data, SIZES, seed=0)
    rows, curation = curate(data, drawn, work / "toy-0")
    assert curation.curated_rows == len(rows.arms["random"]) == len(rows.arms["longest"])
    fates = {fate.planted: fate for fate in curation.fates}
    assert sum(fate.rows for fate in curation.fates) == curation.pool_rows == len(drawn.noisy)
    kept = curation.curated_rows / curation.pool_rows
    # A random subset of this size would hold this many wrong labels.
    assert curation.wrong_labels_after < 0.7 * kept * curation.wrong_labels_before
    assert fates["none"].removed / fates["none"].rows < 0.15
    assert fates["contradicting copy"].removed == fates["contradicting copy"].rows


def test_arms_learn_equally_many_tokens_and_finished_ones_are_not_run_again(
    data: DataSet, work: Path, tmp_path: Path
) -> None:
    settings = TrainSettings(rank=2, alpha=4.0, batch_size=8)
    study = Study(tmp_path / "results", work, SIZES, settings)
    arms = ARMS[:3]
    assert run_seed(data, 0, arms[:1], study, "fp32") == list(arms[:1])
    folder = tmp_path / "results" / "toy"
    first = (folder / "seed-0-raw.json").read_bytes()
    assert run_seed(data, 0, arms, study, "fp32") == list(arms[1:])
    assert (folder / "seed-0-raw.json").read_bytes() == first
    trained = [read_record(folder / f"seed-0-{arm}.json", Trained) for arm in arms]
    assert all(SIZES.tokens - 60 < run.trained_tokens <= SIZES.tokens for run in trained)
    assert all(len(run.right) == SIZES.test for run in trained)
    assert len(read_record(folder / "seed-0-curation.json", Curation).test_rows) == SIZES.test
    longer = replace(study, sizes=replace(SIZES, tokens=600))
    assert run_seed(data, 0, ARMS[:1], longer, "fp32") == list(ARMS[:1])


@pytest.mark.parametrize(("better", "told"), [(0.2, "(better)"), (0.0, "(no difference is shown)")])
def test_the_page_says_what_the_results_show(tmp_path: Path, better: float, told: str) -> None:
    rows = 60
    for seed in range(3):
        fates = (Fate("wrong label", 20, 15, 0, 0, 5), Fate("none", 80, 5, 0, 0, 0))
        names = tuple(f"{seed}-{row}" for row in range(rows))
        curation = Curation("toy", seed, 100, 80, 20, 5, fates, {}, names, 1.0, "")
        write_json(tmp_path / "results" / "toy" / f"seed-{seed}-curation.json", curation)
        for arm in ARMS:
            right = round(rows * (0.6 + seed / 100 + (better if arm == "curated" else 0)))
            marks = "1" * right + "0" * (rows - right)
            trained = Trained(
                "toy", seed, arm, 100, 20, 1.5, 10, 900, 0.1, right / rows, marks, "", "fp32", 1,
                1.0, {"processor": "a processor"}, {"torch": "2"},
            )  # fmt: skip
            write_json(tmp_path / "results" / "toy" / f"seed-{seed}-{arm}.json", trained)
    write_page(tmp_path / "results", tmp_path)
    page = (tmp_path / "curated-vs-noisy.md").read_text(encoding="utf-8")
    assert f"against the raw pool {told}" in page
    assert f"curated − raw | {100 * better:+.1f} " in page
    assert "| toy | 60 | 75.0 % [" in page  # of the 20 rows removed in each seed, 15 were planted
    assert (tmp_path / "curated-vs-noisy.png").stat().st_size > 5_000
