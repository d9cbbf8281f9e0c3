"""Texts as vectors of an encoder with random weights, what is found by them, and linear models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import AutoTokenizer, BertModel

from tag_samples import tag_session, tagged, write_tagged
from test_candidates_forms import row, task_with
from tiny import FP32_PLAN, make_tiny_base, make_tiny_bert, toy_rows
from tunesmith.candidates import embedded, one_vs_rest
from tunesmith.candidates.embedded import answer_embedded, fit_embedded, tune_embedded
from tunesmith.candidates.forms import PromptForm, form_name, form_of, form_settings, own_forms
from tunesmith.candidates.retrieval import library_of_rows
from tunesmith.candidates.scope import Scoping, threshold_of
from tunesmith.candidates.shown import shown_with
from tunesmith.data.label_sets import label_set_text
from tunesmith.data.versions import read_split
from tunesmith.errors import UserError
from tunesmith.models import embedding
from tunesmith.models.catalog import Base
from tunesmith.models.embedding import Embedder
from tunesmith.models.sentence_files import How, Pooling, read_pooling
from tunesmith.progress import silent
from tunesmith.records import Message, Row
from tunesmith.run_records import Training
from tunesmith.stages import embedding as embedding_stage
from tunesmith.stages.answerers import answerer
from tunesmith.stages.data import make_dataset
from tunesmith.stages.embedding import embedder_of, embeddings_sha256
from tunesmith.stages.opponents import measure_opponents
from tunesmith.stages.session import Session
from tunesmith.task import load_task
from tunesmith.task.opponent_settings import OpponentSettings
from tunesmith.workspace import Workspace

LABELS = ("billing", "delivery", "refund")
TEXTS = ["my parcel is late", "", "refund " * 9, "a charge on the invoice that nobody made " * 40]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bert(tmp_path_factory.mktemp("encoder") / "mini")


def embedder_in(encoder: Path, kept: Path) -> Embedder:
    return Embedder(Base("mini", str(encoder), "0" * 64, "", ""), "cpu", kept)


@pytest.fixture
def embedder(encoder: Path, tmp_path: Path) -> Embedder:
    return embedder_in(encoder, tmp_path / "kept")


def by_hand(encoder: Path, text: str, how: str = "mean", most: int | None = None) -> Any:
    """Pieces of a text read one by one, without padding: pooled over all their tokens, of length 1."""
    untyped: Any = BertModel
    model = untyped.from_pretrained(encoder).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(encoder)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    room = (most or model.config.max_position_embeddings) - 2
    pieces = [ids[start : start + room] for start in range(0, max(1, len(ids)), room)]
    said = []
    for piece in pieces:
        tokens = torch.tensor([[tokenizer.bos_token_id, *piece, tokenizer.eos_token_id]])
        with torch.no_grad():
            said.append(model(input_ids=tokens).last_hidden_state[0])
    pooled = torch.cat(said).mean(dim=0)
    if how == "max":
        pooled = torch.cat(said).amax(dim=0)
    elif how == "cls":
        pooled = torch.stack([piece[0] for piece in said]).mean(dim=0)
    return (pooled / pooled.norm()).numpy()


# --- vectors ---


def test_a_vector_is_the_mean_over_all_tokens_of_a_text_of_any_length_and_padding_never_counts(
    encoder: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = embedder.embed(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(vector, by_hand(encoder, text), atol=2e-6)
    monkeypatch.setattr(embedding, "TOKENS_PER_BATCH", 1)
    np.testing.assert_allclose(embedder.embed(TEXTS), together, atol=2e-6)
    assert embedder.embed([]).shape == (0, 64)


def write_sentence_files(folder: Path, pooling: object, last: str = "Normalize") -> Path:
    """What sentence-transformers writes beside an encoder; ``last`` is the kind of its last step."""
    names = {"0": ("", "Transformer"), "1": ("1_Pooling", "Pooling"), "2": ("2_Last", last)}
    modules = [
        {"idx": int(name), "name": name, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for name, (path, kind) in names.items()
    ]
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("pooling", "how"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}, "mean"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean"),
        ({"pooling_mode": "max", "include_prompt": True}, "max"),
        ({"pooling_mode": ["cls"]}, "cls"),
    ],
)
def test_tokens_are_pooled_as_the_files_of_sentence_transformers_say(
    encoder: Path, tmp_path: Path, pooling: object, how: str
) -> None:
    folder = write_sentence_files(tmp_path, pooling)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 20, "do_lower_case": true}')
    prompts = {"prompts": {"query": "find: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts), encoding="utf-8")
    found = read_pooling(folder, "it")
    assert found == Pooling(cast(How, how), 20, "find: ", lower=True)
    told = Embedder(Base("mini", str(encoder), "0" * 64, "", ""), "cpu", tmp_path / "kept", found)
    texts = ["My Parcel is late", *TEXTS[2:]]
    for text, vector in zip(texts, told.embed(texts), strict=True):
        np.testing.assert_allclose(vector, by_hand(encoder, f"find: {text.lower()}", how, 20), atol=2e-6)


@pytest.mark.parametrize(
    ("pooling", "last", "told"),
    [
        (
            {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
            "Normalize",
            "mean_tokens and ",
        ),
        ({"pooling_mode": "lasttoken"}, "Normalize", "asks for lasttoken pooling"),
        ({}, "Normalize", "asks for no pooling"),
        ({"pooling_mode": "mean"}, "Dense", "a step that is not made here: Dense"),
        ({"pooling_mode": "mean", "include_prompt": False}, "Normalize", "out of the pooling"),
    ],
)
def test_what_the_files_ask_for_and_cannot_be_done_is_refused(
    tmp_path: Path, pooling: object, last: str, told: str
) -> None:
    folder = write_sentence_files(tmp_path, pooling, last)
    prompts = {"prompts": {"query": "find: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts), encoding="utf-8")
    with pytest.raises(UserError, match=told):
        read_pooling(folder, "opponents.embeddings")
    (folder / "modules.json").write_text("[", encoding="utf-8")
    with pytest.raises(UserError, match=r"modules.json is not JSON"):
        read_pooling(folder, "opponents.embeddings")


def test_vectors_of_known_texts_are_kept_by_content_and_read_back_without_the_model(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = embedder_in(encoder, tmp_path).known(TEXTS)
    again = embedder_in(encoder, tmp_path)
    monkeypatch.setattr(embedding, "_load", lambda base, device: pytest.fail("loaded"))
    assert (again.known(TEXTS) == first).all()
    assert len(list(tmp_path.iterdir())) == 1
    other = Embedder(Base("mini", str(encoder), "1" * 64, "", ""), "cpu", tmp_path)
    for one, texts in ((again, TEXTS[1:]), (other, TEXTS)):
        with pytest.raises(pytest.fail.Exception, match="loaded"):
            one.known(texts)


# --- what is found ---


def test_examples_and_passages_are_the_nearest_by_cosine_the_best_last_and_none_of_the_rows_group(
    embedder: Embedder,
) -> None:
    train = [*toy_rows(12, LABELS, 0), row(7, "quite another text", "refund", "mine")]
    asked = [row(99, train[3].text, "billing"), row(98, "quite another text", "refund", "mine")]
    cosines = embedder.embed([one.text for one in asked]) @ embedder.embed([one.text for one in train]).T
    cosines[1, -1] = -2.0  # its own group
    shown = shown_with(PromptForm(3, "embeddings"), train, asked, None, embedder)
    for one, values in zip(shown, cosines, strict=True):
        best = np.argsort(-values)[:3][::-1]
        assert [example.id for example in one.examples] == [train[index].id for index in best]
    assert shown[0].examples[-1].id == train[3].id
    library = library_of_rows(train)
    form = PromptForm(passages=20, found_by="embeddings")
    found = shown_with(form, train, asked, library, embedder)
    # BM25 finds none without a word in common; by meaning every passage has its place.
    assert [len(one.passages) for one in found] == [13, 12]
    assert "quite another text\nAnswer: refund" not in found[1].passages


def test_each_way_of_finding_is_a_prompt_of_its_own_and_survives_its_settings() -> None:
    retrieval = {"k": [1, 2], "by": ["bm25", "embeddings"]}
    settings = OpponentSettings.model_validate(
        {
            "embeddings": "m",
            "few_shot": [2],
            "few_shot_choice": ["nearest", "embeddings"],
            "retrieval": retrieval,
        }
    )
    forms = own_forms(settings)
    assert [form_name(form) for form in forms] == [
        *("zero-shot", "2-shot nearest", "2-shot nearest by embeddings", "1 passage", "2 passages"),
        *("1 passage by embeddings", "2 passages by embeddings"),
    ]
    assert [form.embeds for form in forms] == [False, False, True, False, False, True, True]
    assert [form_of(form_settings(form)) for form in forms] == forms
    assert form_settings(forms[3]) == {"examples": 0, "passages": 1}


# --- linear models ---


def test_a_linear_model_learns_from_vectors_and_is_the_same_fitted_again(embedder: Embedder) -> None:
    train, asked = toy_rows(90, LABELS, 0), toy_rows(60, LABELS, 1)
    model, table = tune_embedded(embedder, train, asked, several=False)
    answers = answer_embedded(model, asked)
    right = np.mean([one.target == label for one, label in zip(asked, answers.labels, strict=True)])
    assert right == max(value for _, value in table)
    assert right > 0.6
    assert answers.probabilities is not None
    assert len(table) == len(embedded.EMBEDDED_C)
    again = fit_embedded(embedder, model.candidate, train)
    assert again.candidate == model.candidate
    assert answer_embedded(again, asked).labels == answers.labels
    other, _ = tune_embedded(embedder, train[1:], asked, several=False)
    assert other.candidate.id != model.candidate.id


def test_with_none_of_these_it_gives_no_label_below_its_threshold(embedder: Embedder) -> None:
    train, asked = toy_rows(60, LABELS, 0), toy_rows(40, LABELS, 1)
    scoping = Scoping("none", lambda rows, scores: float(np.median(scores)))
    model, _ = tune_embedded(embedder, train, asked, False, scoping=scoping)
    labels = answer_embedded(model, asked).labels
    assert threshold_of(model.candidate) is not None
    assert labels.count("none") == 20
    again = fit_embedded(embedder, model.candidate, train)
    assert answer_embedded(again, asked).labels == labels


def test_several_labels_a_row_get_a_classifier_each_and_one_threshold(embedder: Embedder) -> None:
    rows = [
        Row(f"r{index}", "", (Message("user", text),), label_set_text(labels))
        for index, (text, labels) in enumerate(tagged(180))
    ]
    train, asked = rows[:120], rows[120:]
    model, table = tune_embedded(embedder, train, asked, several=True)
    labels = answer_embedded(model, asked).labels
    exact = np.mean([one.target == label for one, label in zip(asked, labels, strict=True)])
    assert exact == max(value for _, value in table)
    assert exact > np.mean([one.target == "[]" for one in asked])
    assert answer_embedded(fit_embedded(embedder, model.candidate, train), asked).labels == labels


# --- the task's model ---


def session_of(folder: Path, opponents: str) -> Session:
    console = Console(quiet=True)
    return Session(
        task_with(folder, opponents), Workspace(folder / "runs").task("x"), console, folder / "cache"
    )


def test_the_model_is_found_once_and_named_by_its_content(encoder: Path, tmp_path: Path) -> None:
    assert embedder_of(session_of(tmp_path, "{}")) is None
    session = session_of(tmp_path, f"{{embeddings: {encoder}}}")
    assert embedder_of(session) is embedder_of(session)
    other = make_tiny_bert(tmp_path / "other", seed=1)
    sha256 = embeddings_sha256(session)
    assert sha256 is not None
    assert sha256 != embeddings_sha256(session_of(tmp_path, f"{{embeddings: {other}}}"))


def test_another_pooling_is_another_model_and_a_folder_called_model_is_named_by_its_package(
    tmp_path: Path,
) -> None:
    folder = make_tiny_bert(tmp_path / "a_package" / "model")
    found = []
    for how in ("mean", "cls"):
        write_sentence_files(folder, {"pooling_mode": how})
        embedder = embedder_of(session_of(tmp_path, f"{{embeddings: {folder}}}"))
        assert embedder is not None
        assert embedder.base.name == "a_package"
        found.append(embedder.base.sha256)
    assert found[0] != found[1]


def test_what_is_no_encoder_is_refused_with_the_setting_that_names_it(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tiny_base(tmp_path / "decoder")
    for named, told in (
        ("decoder", "embeddings: decoder is a decoder .llama., not an encoder"),
        ("missing", "^opponents.embeddings: 'missing' is not in the catalog"),
        ("owner/name", "^opponents.embeddings: 'owner/name' names no fixed revision"),
    ):
        with pytest.raises(UserError, match=told):
            embedder_of(session_of(tmp_path, f"{{embeddings: {named}}}"))
    monkeypatch.setattr(embedding_stage, "available_mb", lambda: 0.01)
    with pytest.raises(UserError, match=r"needs about 0\.0 GiB of memory"):
        embedder_of(session_of(tmp_path, f"{{embeddings: {encoder}}}"))


def test_weights_that_lack_a_layer_are_refused_but_a_missing_pooler_is_not(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_tiny_bert(tmp_path / "mini")
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("pooler.")}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    embedder_in(folder, tmp_path).embed(["one"])
    kept = {name: tensor for name, tensor in kept.items() if "layer.1.output.dense" not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="2 tensors of mini are not in its weight files"):
        embedder_in(folder, tmp_path).embed(["one"])


@pytest.mark.parametrize(
    ("kind", "opponents", "told"),
    [
        ("classify", "{few_shot_choice: [embeddings]}", "few_shot_choice: embeddings needs an embedding"),
        (
            "classify",
            "{retrieval: {k: [1], by: [embeddings]}}",
            "retrieval.by: embeddings needs an embedding",
        ),
        ("generate", "{embeddings: m}", "opponents.embeddings: nothing uses it"),
        ("classify", "{embeddings: m, classical: false}", "opponents.embeddings: nothing uses it"),
        (
            "classify",
            "{embeddings: m, retrieval: {k: [1], by: [embeddings], with_tuned: true}}",
            "with_tuned: the tuned model's passages are found by BM25",
        ),
    ],
)
def test_embeddings_that_nothing_gives_or_uses_are_refused(
    tmp_path: Path, kind: str, opponents: str, told: str
) -> None:
    with pytest.raises(UserError, match=told):
        task_with(tmp_path, opponents, kind)


def test_settings_that_go_together_are_read(tmp_path: Path) -> None:
    task_with(tmp_path, "{embeddings: m, few_shot_choice: [nearest, embeddings]}", "generate")
    retrieval = "{k: [1], by: [embeddings, bm25], with_tuned: true}"
    task = task_with(tmp_path, f"{{embeddings: m, retrieval: {retrieval}}}", "answer")
    assert json.loads(task.model_dump_json())["opponents"]["retrieval"]["by"] == ["embeddings", "bm25"]


def test_a_run_compares_them_with_other_opponents_and_the_finalist_answers_the_same_again(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_vs_rest, "GRID", (("linear SVM", (1.0,)),))
    monkeypatch.setattr(one_vs_rest, "FEATURES", ("words",))
    make_tiny_base(tmp_path / "base")
    write_tagged(tmp_path / "rows.jsonl")
    session = tag_session(tmp_path)
    path = tmp_path / "topics.yaml"
    text = path.read_text(encoding="utf-8").replace("zero_shot: true", "zero_shot: false")
    path.write_text(text.replace("classical: true", f"embeddings: {encoder}"), encoding="utf-8")
    session.task = load_task(path)
    dataset, _ = make_dataset(session)
    found = measure_opponents(session, dataset, FP32_PLAN)
    card = next(card for card in found.scorecards if card.candidate.settings.get("method") == embedded.METHOD)
    assert card.candidate.name.startswith("classical: logistic regression on embeddings of mini, C=")
    assert card.cost.seconds > 0
    again = answerer(session, dataset, FP32_PLAN, cast(Training, None), card.candidate)
    rows = read_split(dataset, "validation")
    answers = dict(zip([one.id for one in rows], again(rows, silent).labels, strict=True))
    assert {one.row_id: one.answer for one in card.predictions} == answers
    path.write_text(text, encoding="utf-8")
    session.task = load_task(path)
    with pytest.raises(UserError, match="not the model that the task names now"):
        answerer(session, dataset, FP32_PLAN, cast(Training, None), card.candidate)
