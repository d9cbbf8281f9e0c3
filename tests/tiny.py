"""Tiny real things for tests: a Llama with random weights, its own tokenizer, and rows to learn from."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from tunesmith.engine import attention
from tunesmith.evaluation.probes import probe_items
from tunesmith.evaluation.texts import general_texts
from tunesmith.models.catalog import resolve_base
from tunesmith.models.loading import LoadedModel, load_base
from tunesmith.records import Message, Plan, Row

# What a train stage reads of a plan, without the time to make one.
FP32_PLAN = Plan(
    test_rows=50,
    test_groups=50,
    design_effect=1.0,
    goal_gain=0.02,
    alpha_one_sided=0.05,
    power=(),
    precision="fp32",
    matmul_gflops=1.0,
    tokens_per_second=1.0,
    train_tokens=1,
    estimated_train_seconds=1.0,
    estimated_opponents_seconds=1.0,
    estimated_verdict_seconds=1.0,
    estimated_peak_memory_mb=1.0,
    available_memory_mb=1.0,
)

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _words(text: str) -> list[str]:
    return text.split()


_FILLERS = _words("""
about account after again already answer because been before better between bring calendar called
came change chair coffee could day different does door early ever every fair family first found
friend garden give good great green hand have head hear help here home hour house idea just keep
kind know large last later learn letter light like line little long look made many matter maybe
might minute moment month morning most move much name near need never next nice night number often
old once only open order other our over page paper part people picture place plain plan point quite
rather read really right river road room round said same second seem set several short should side
since small some soon sort still story street sure table take talk tell than thank that then there
these thing think this those though three through time today together took town tree turn under
until usually very voice wait walk want water way week well went were what when where which while
white who whole will window winter with without word work world would write year yellow yesterday
yet young
""")

# Two telling words per label, in order.
_TELLING = _words("""
invoice charge parcel courier return broken hello welcome password login refund money update version
cancel contract battery screen ticket concert hotel flight doctor clinic recipe oven football match
tax salary lawyer court engine brake guitar piano rain storm kitten puppy school teacher
""")


def make_tiny_base(
    folder: Path, template: str | None = CHAT_TEMPLATE, seed: int = 0, general: bool = False
) -> Path:
    """Save a Llama (2 layers, width 64, about 400 tokens, context 512) as a Hugging Face folder.

    ``general``: with a tokenizer of more tokens, which cuts general texts and probes into fewer.
    """
    tokenizer = tiny_tokenizer(template, general)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        # Larger than usual: two layers of almost nothing would answer every prompt alike.
        initializer_range=0.1,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def link_base(general_base: Path, folder: Path) -> None:
    """Make ``base`` in ``folder`` the shared one, and ``cache`` what was measured of it."""
    for name in ("base", "cache"):
        (folder / name).symlink_to(general_base.parent / name)


def make_tiny_t5(folder: Path, seed: int = 0) -> Path:
    """Save a T5 (2 layers, width 64, gated feed-forward) as a Hugging Face folder."""
    tokenizer = tiny_tokenizer(None)
    torch.manual_seed(seed)
    untyped: Any = T5Config
    config = untyped(
        vocab_size=len(tokenizer),
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        initializer_factor=1.0,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tiny_bert(folder: Path, seed: int = 0) -> Path:
    """Save a BERT encoder (2 layers, width 64), without any head, as a Hugging Face folder."""
    tokenizer = tiny_tokenizer(None)
    untyped: Any = tokenizer
    untyped.cls_token, untyped.sep_token = tokenizer.bos_token, tokenizer.eos_token
    untyped.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A <|im_end|>",
        special_tokens=[("<|im_start|>", tokenizer.bos_token_id), ("<|im_end|>", tokenizer.eos_token_id)],
    )
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        initializer_range=0.1,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def load_tiny(folder: Path, dtype: torch.dtype = torch.float32) -> LoadedModel:
    """Load a folder of :func:`make_tiny_base` the way a run does."""
    attention.register()
    base = resolve_base(str(folder), folder.parent, folder.parent / "cache", say=lambda message: None)
    return load_base(base, dtype, attention.ATTENTION_NAME)


def tiny_tokenizer(template: str | None = CHAT_TEMPLATE, general: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, trained in a moment on texts like those of :func:`toy_rows`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000 if general else 400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = [f" {word}" for word in (*_FILLERS, *_TELLING)]
    texts = [*words, "system\nuser\nassistant\n", "Answer. 2.0 3.0+ v2"]
    if general:
        texts += [text.text for text in general_texts()]
        texts += [text for item in probe_items() for text in (item.prompt, *item.options)]
    tokenizer.train_from_iterator(texts, trainer)
    untyped: Any = PreTrainedTokenizerFast
    fast: PreTrainedTokenizerFast = untyped(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
    )
    fast.chat_template = template
    return fast


def toy_rows(count: int, labels: Sequence[str], seed: int) -> list[Row]:
    """Rows whose label shows in one or two telling words among fourteen that say nothing.

    Every row is its own group; no two are near-duplicates.
    """
    draw = random.Random(seed)
    rows = []
    for index in range(count):
        label = draw.randrange(len(labels))
        words = draw.sample(_FILLERS, 14)
        for word in draw.choice([_TELLING[2 * label : 2 * label + 1], _TELLING[2 * label : 2 * label + 2]]):
            words.insert(draw.randrange(len(words) + 1), word)
        rows.append(
            Row(
                id=f"toy-{seed}-{index}",
                source=f"toy.jsonl:{index + 1}",
                messages=(Message("user", " ".join(words)),),
                target=labels[label],
                group=f"group-{seed}-{index}",
            )
        )
    return rows
