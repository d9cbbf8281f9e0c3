"""An answer held to a schema is JSON that fits it, whatever the weights; other schemas are refused."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from tiny import tiny_tokenizer
from tunesmith.engine.automaton import DEAD
from tunesmith.engine.constrained import TokenFilter, json_filter
from tunesmith.engine.generation import Decoding, generate
from tunesmith.engine.schema import compile_schema
from tunesmith.engine.vocabulary import Vocabulary, build_vocabulary, read_vocabulary
from tunesmith.errors import UserError


@cache
def tokenizer() -> Any:
    return tiny_tokenizer()


@cache
def vocabulary() -> Vocabulary:
    return read_vocabulary(tokenizer())


def random_model(seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = LlamaConfig(
        # More than the tokenizer has, as in models whose vocabulary is padded.
        vocab_size=len(tokenizer()) + 3,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.3,
    )
    model: PreTrainedModel = LlamaForCausalLM(config)
    model.train(False)
    return model


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value is valid by the schema: a plain validator of the subset."""
    if "anyOf" in schema:
        return any(fits(value, entry) for entry in schema["anyOf"])
    if "enum" in schema:
        return any(value == choice and type(value) is type(choice) for choice in schema["enum"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return any(_fits_type(value, kind, schema) for kind in kinds)


def _fits_type(value: Any, kind: str, schema: dict[str, Any]) -> bool:
    if kind == "object":
        properties = schema["properties"]
        return (
            isinstance(value, dict)
            and list(value) == list(properties)
            and all(fits(value[name], inner) for name, inner in properties.items())
        )
    if kind == "array":
        return (
            isinstance(value, list)
            and schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
            and all(fits(item, schema["items"]) for item in value)
        )
    if kind == "string":
        return isinstance(value, str) and (
            schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        )
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "boolean":
        return isinstance(value, bool)
    return value is None


_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=0, max_size=5)
_strings = st.fixed_dictionaries({"type": st.just("string")}, optional={"maxLength": st.integers(3, 9)})
_short = st.builds(
    lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
    st.integers(0, 3),
    st.integers(0, 2),
)
_plain = st.sampled_from(["number", "integer", "boolean", "null"]).map(lambda kind: {"type": kind})
_optional = st.sampled_from(["number", "integer", "boolean", "string"]).map(
    lambda kind: {"type": [kind, "null"]}
)
_enums = st.lists(
    st.one_of(_names, st.integers(-20, 1200), st.none(), st.booleans()), min_size=1, max_size=4
).map(lambda choices: {"enum": choices})
_scalars = st.one_of(_strings, _short, _plain, _optional, _enums)
_arrays = st.builds(
    lambda items, low, more: (
        {"type": "array", "items": items, "minItems": low}
        | ({} if more is None else {"maxItems": low + more})
    ),
    _scalars,
    st.integers(0, 2),
    st.one_of(st.none(), st.integers(0, 2)),
)
_either = st.lists(_scalars, min_size=1, max_size=3).map(lambda entries: {"anyOf": entries})
_values = st.one_of(_scalars, _arrays, _either)
_schemas = st.recursive(
    _values,
    lambda inner: st.dictionaries(_names, inner, max_size=3).map(
        lambda properties: {"type": "object", "properties": properties}
    ),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    schema=_schemas,
    seed=st.integers(0, 3),
    temperature=st.sampled_from([0.0, 1.0, 5.0]),
    spare=st.integers(0, 30),
)
def test_any_model_under_any_schema_writes_json_that_fits_it_within_its_tokens(
    schema: dict[str, Any], seed: int, temperature: float, spare: int
) -> None:
    grammar = TokenFilter(compile_schema(schema), vocabulary(), tokenizer().eos_token_id)
    decoding = Decoding(
        max(1, grammar.fewest_tokens) + spare, tokenizer().eos_token_id, temperature=temperature, seed=seed
    )
    prompts = [[5, 6, 7], [9, 8], [30, 31, 32, 33]]
    for answer in generate(random_model(seed), prompts, decoding, grammar=grammar):
        text = b"".join(vocabulary().texts[token] or b"?" for token in answer.tokens).decode()
        assert fits(json.loads(text), schema), text


_EXTRACTION = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 4},
        "kind": {"enum": ["a", "ab", 1, 12]},
        "rate": {"type": ["number", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
    },
}


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ('{"name": "Zoë!", "kind": "ab", "rate": -1.5, "tags": []}', True),
        ('{"name": "", "kind": 12, "rate": null, "tags": ["x", "\\u00e9"]}', True),
        ('{"name": "😀😀😀😀", "kind": 1, "rate": 0, "tags": ["y"]}', True),
        ('{"name": "five!", "kind": "ab", "rate": 1, "tags": []}', False),
        ('{"name": "", "kind": "abc", "rate": 1, "tags": []}', False),
        ('{"name": "", "kind": "a", "rate": 01, "tags": []}', False),
        ('{"name": "", "kind": "a", "rate": 1., "tags": []}', False),
        ('{"name": "\n", "kind": "a", "rate": 1, "tags": []}', False),
        ('{"name": "\\ud83d", "kind": "a", "rate": 1, "tags": []}', False),
        ('{"name": "", "kind": "a", "rate": 1, "tags": ["x", "y", "z"]}', False),
        ('{"kind": "a", "name": "", "rate": 1, "tags": []}', False),
        ('{"name": "", "kind": "a", "rate": 1, "tags": []} ', False),
    ],
)
def test_the_automaton_accepts_what_the_schema_allows_and_nothing_else(text: str, allowed: bool) -> None:
    automaton = compile_schema(_EXTRACTION)
    state = automaton.after(automaton.start, text.encode())
    assert (state != DEAD and automaton.accepts(state)) == allowed


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=8), limit=st.integers(0, 8))
def test_strings_are_counted_in_characters_however_they_are_written(text: str, limit: int) -> None:
    automaton = compile_schema({"type": "string", "maxLength": limit})
    for escaped in (True, False):
        if escaped and any(ord(sign) > 0xFFFF for sign in text):
            continue  # json.dumps writes these as two surrogates, which we leave out
        state = automaton.after(automaton.start, json.dumps(text, ensure_ascii=escaped).encode())
        assert (state != DEAD and automaton.accepts(state)) == (len(text) <= limit)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=5))
def test_no_string_holds_bytes_that_are_not_utf8(content: bytes) -> None:
    automaton = compile_schema({"type": "string"})
    state = automaton.after(automaton.start, b'"' + content + b'"')
    try:
        valid = isinstance(json.loads((b'"' + content + b'"').decode()), str)
    except ValueError:
        valid = False
    assert (state != DEAD and automaton.accepts(state)) == valid


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "string", "pattern": "a+"}, "pattern"),
        ({"type": "string", "format": "date"}, "format"),
        ({"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}}, r"schema\.n.*minimum"),
        ({"type": "object", "properties": {"n": {"$ref": "#/$defs/N"}}}, r"schema\.n.*\$ref"),
        ({"oneOf": [{"type": "null"}]}, "oneOf"),
        ({"type": "array", "items": {"type": "date"}}, r"schema\[\].*date"),
        ({"type": "array"}, "items"),
        ({"type": "string", "maxLength": -1}, "maxLength"),
        ({"type": "string", "minLength": 4, "maxLength": 1}, "minLength"),
        ({"type": "string", "enum": []}, "enum"),
        ({"type": "string", "enum": [1, 2]}, "enum"),
        ({"type": "object", "properties": {}, "required": ["id"]}, "id"),
        (
            {"type": "object", "properties": {}, "additionalProperties": {"type": "null"}},
            "additionalProperties",
        ),
        ({"type": "array", "items": {"type": "string", "maxLength": 900}, "maxItems": 900}, "states"),
    ],
)
def test_a_schema_outside_the_subset_is_refused_by_name(schema: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        compile_schema(schema)


def test_too_few_tokens_for_the_shortest_answer_are_refused() -> None:
    grammar = json_filter(_EXTRACTION, tokenizer(), tokenizer().eos_token_id)
    decoding = Decoding(grammar.fewest_tokens - 1, tokenizer().eos_token_id)
    with pytest.raises(UserError, match=f"set max_new_tokens to {grammar.fewest_tokens}"):
        generate(random_model(0), [[5, 6]], decoding, grammar=grammar)


def test_a_vocabulary_that_cannot_spell_the_schema_is_refused() -> None:
    digits = build_vocabulary((None, *(str(digit).encode() for digit in range(10))))
    assert TokenFilter(compile_schema({"type": "integer"}), digits, 0).fewest_tokens == 1
    with pytest.raises(UserError, match="no tokens that spell"):
        TokenFilter(compile_schema({"type": "null"}), digits, 0)


def test_tokens_spell_what_the_tokenizer_decodes() -> None:
    texts = vocabulary().texts
    for text in ('{"naïve": "日本 😀\\n"}', " about the  parcel", "a\tb\r\n"):
        ids = tokenizer()(text, add_special_tokens=False).input_ids
        assert b"".join(texts[token] or b"?" for token in ids).decode() == text
    assert all(texts[token] is None for token in tokenizer().all_special_ids)
