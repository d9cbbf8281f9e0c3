"""What did the tuned model forget? Its general ability against its base, on the same texts and probes.

Judged first by paired bits per byte on general text, then by probe accuracy. A guard passes only by showing
that the loss is inside its margin: "no loss seen" is not evidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tunesmith.errors import UserError
from tunesmith.evaluation.probes import ProbeItem, probe_items, probes_sha256
from tunesmith.evaluation.texts import SAMPLE_TOKENS, GeneralText, general_texts, sample_prompts
from tunesmith.evaluation.wording import signed
from tunesmith.files import content_hash
from tunesmith.records import Check, Estimate, Forgetting
from tunesmith.stats.answers import non_inferior
from tunesmith.stats.intervals import (
    mean_interval,
    proportion_interval,
    ratio_interval,
    relative_change_interval,
)
from tunesmith.stats.paired import FEWEST_GROUPS, paired_score_gain

ALL_TEXT = "all text"
ALL_PROBES = "all probes"
OWN_PROBES = "own probes"
LM_EVAL = "lm-eval "  # before the name of a task
_WHOLE = (ALL_TEXT, ALL_PROBES, OWN_PROBES)


@dataclass(frozen=True)
class ScoredText:
    """What a model is asked to score: ``continuation`` after ``prompt``.

    Without ``chat`` the two are one running text; the continuation begins with white space and the prompt
    is never empty. With ``chat`` the prompt is a user turn and the continuation the beginning of the
    assistant's answer, without an end-of-turn token.
    """

    prompt: str
    continuation: str
    chat: bool


# Natural-log probability of each continuation, summed over its tokens; same order as asked.
LogProbs = Callable[[Sequence[ScoredText]], Sequence[float]]


@dataclass(frozen=True)
class ProbeScores:
    """Log-probability (nats) of every option of every probe, in the order of ``probe_items()``."""

    probes_sha256: str
    log_probabilities: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Material:
    """How much a guard over all domains rests on."""

    domain: str
    items: int
    groups: int


def guard_material() -> tuple[Material, Material]:
    """Texts and probes that every base is scored on, its own samples included; domains at chance, too."""
    texts, samples, probes = general_texts(), len(sample_prompts()), probe_items()
    documents = len({(text.domain, text.source) for text in texts})
    return (
        Material(ALL_TEXT, len(texts) + samples, documents + samples),
        Material(ALL_PROBES, len(probes), len({item.group for item in probes})),
    )


@dataclass(frozen=True)
class GeneralScores:
    """One model's scores on the general texts and the probes.

    Holds the texts themselves, as the base's own samples cannot be made again from anything else: a tuned
    model is scored on ``texts`` of its base's scores. ``text_bits`` has one number for each text.
    """

    texts: tuple[GeneralText, ...]
    text_bits: tuple[float, ...]
    probes: ProbeScores


def material_sha256() -> str:
    """Names all that a base is scored on, but for its own samples: a cached GeneralScores is valid for one
    base and one such hash."""
    return content_hash([general_texts(), sample_prompts(), SAMPLE_TOKENS, probe_items()])


def score_general(texts: Sequence[GeneralText], log_probs: LogProbs) -> GeneralScores:
    """Score one model on ``texts`` and on all probes. Errors as in ``score_texts``."""
    return GeneralScores(
        texts=tuple(texts),
        text_bits=tuple(score_texts(texts, log_probs)),
        probes=score_probes(probe_items(), log_probs),
    )


def score_texts(texts: Sequence[GeneralText], log_probs: LogProbs) -> list[float]:
    """Bits that the model needs for each text, given its prompt.

    Raises UserError (exit code 3) when a log-probability is not finite: such a model is broken.
    """
    asked = [ScoredText(text.prompt, text.text, text.chat) for text in texts]
    return [-nats / math.log(2) for nats in _finite(asked, log_probs)]


def score_probes(items: Sequence[ProbeItem], log_probs: LogProbs) -> ProbeScores:
    """Log-probability of every option of ``items``. Options of one item are asked next to each other.

    Raises UserError (exit code 3) when a log-probability is not finite.
    """
    asked = [ScoredText(item.prompt, option, item.chat) for item in items for option in item.options]
    nats = iter(_finite(asked, log_probs))
    by_item = tuple(tuple(next(nats) for _ in item.options) for item in items)
    return ProbeScores(probes_sha256(items), by_item)


def measure_forgetting(
    base: GeneralScores,
    tuned: GeneralScores,
    text_margin: float,
    probe_margin: float,
    level: float = 0.90,
) -> tuple[Forgetting, ...]:
    """The change from ``base`` to ``tuned``: general text by domain and in all, then probes likewise.

    Text: ``base`` and ``tuned`` are bits per byte, ``change`` the relative rise of the summed bits (more is
    worse), paired by passage and clustered by document.

    Probes: the option with the highest total log-probability is the answer (of equals the first). Totals are
    not divided by length: so the choice is the answer that the model itself finds most probable, sentence
    pairs are judged as in the literature, and the options of an item are about equally long. ``base`` and
    ``tuned`` are accuracies, ``change`` is tuned minus base (less is worse), paired and clustered.
    ``log_probability_change`` is the mean change, in nats per item, of the right option's log-probability
    normalised over the item's options (less is worse): it moves before an answer flips, and does not mistake
    another style for lost knowledge, which the general text already measures.

    A probe domain is ``at_chance`` where the interval of the base's accuracy reaches down to guessing;
    "all probes" leaves such domains out, as they would only dilute a drop. Fewer than 50 groups of probes
    give the interval [−1, 1]. ``text_margin`` is relative (0.03: three per cent more bits), ``probe_margin``
    a share of the items (0.02: two points of accuracy); both are kept for the guards. ``level`` is two-sided:
    0.90 is for guards at one-sided 5 %, ``guard_level`` for those of a contest. Raises ValueError when the
    two were scored on different texts or probes.
    """
    items = probe_items()
    if base.texts != tuned.texts:
        raise ValueError("base and tuned model were scored on different texts")
    if {base.probes.probes_sha256, tuned.probes.probes_sha256} != {probes_sha256(items)}:
        raise ValueError("base and tuned model were not scored on the probes of this version")

    texts, probes = base.texts, (base.probes, tuned.probes)
    text_domains = list(dict.fromkeys(text.domain for text in texts))
    measured = []
    for name, domains in (*((domain, [domain]) for domain in text_domains), (ALL_TEXT, text_domains)):
        chosen = [index for index, text in enumerate(texts) if text.domain in domains]
        measured.append(_text_change(base, tuned, name, chosen, text_margin, level))

    probe_domains = list(dict.fromkeys(item.domain for item in items))
    by_domain = []
    for domain in probe_domains:
        chosen = [index for index, item in enumerate(items) if item.domain == domain]
        by_domain.append(_probe_change(items, *probes, domain, chosen, probe_margin, level))
    able = [change.domain for change in by_domain if not change.at_chance] or probe_domains
    chosen = [index for index, item in enumerate(items) if item.domain in able]
    whole = _probe_change(items, *probes, ALL_PROBES, chosen, probe_margin, level)
    return (*measured, *by_domain, whole)


def all_text_change(base: GeneralScores, tuned_bits: Sequence[float]) -> Estimate:
    """The relative rise of the summed bits for all of ``base``'s texts, described (95 %)."""
    groups = _documents(base, range(len(base.texts)))
    return relative_change_interval(tuned_bits, base.text_bits, groups)


def measure_own_probes(
    items: Sequence[ProbeItem], base: ProbeScores, tuned: ProbeScores, margin: float, level: float = 0.90
) -> Forgetting:
    """The user's own ``items`` as one domain, measured like the built-in probes."""
    return _probe_change(items, base, tuned, OWN_PROBES, range(len(items)), margin, level)


def guard_checks(
    forgetting: Sequence[Forgetting], text_blocking: bool, probe_blocking: bool
) -> tuple[Check, ...]:
    """Non-inferiority of all text and of all probes against their margins, then of each domain.

    Only those over all domains, and the user's own probes, can block; those of a single domain tell where a
    change sits. Unmeasured: the base at chance, fewer than 50 groups, or an interval across the margin. A
    change without a margin has no check.
    """
    whole_first = sorted(forgetting, key=lambda change: change.domain not in _WHOLE)
    checks = []
    for change in whole_first:
        asked_to_block = text_blocking if change.kind == "text" else probe_blocking
        if change.margin is not None:
            blocking = asked_to_block and change.domain in _WHOLE
            checks.append(guard_check(change, change.margin, blocking))
    return tuple(checks)


def log_probability_check(forgetting: Sequence[Forgetting], margin: float, blocking: bool) -> Check:
    """Non-inferiority of the right options' log-probability, over all probes, against its own margin (nats
    per item). Unmeasured: not scored, the base at chance, fewer than 50 groups, or an interval across it."""
    name = "forgetting: log-probability of all probes"
    question = f"Is the right option of a probe at most {margin:g} nats less likely than with the base?"
    whole = next((one for one in forgetting if one.domain == ALL_PROBES), None)
    moved = whole.log_probability_change if whole else None
    if whole is None or moved is None:
        return Check(name, question, "unmeasured", "no probe was scored", blocking)
    answer = non_inferior(replace(moved, value=-moved.value, low=-moved.high, high=-moved.low), margin)
    reason = ""
    if whole.at_chance:
        answer, reason = "unmeasured", "; the base only guesses here"
    elif moved.groups < FEWEST_GROUPS:
        answer, reason = "unmeasured", f"; fewer than {FEWEST_GROUPS} groups"
    told = f"{signed(moved.value, 3)} [{signed(moved.low, 3)}, {signed(moved.high, 3)}] nats"
    evidence = f"{told}; margin {margin:g}; {moved.rows:,} items in {moved.groups:,} groups{reason}"
    return Check(name, question, answer, evidence, blocking, moved)


def unmeasured_checks(reason: str, text_blocking: bool, probe_blocking: bool) -> tuple[Check, ...]:
    """The two overall guards where a model's general ability cannot be measured, for ``reason``."""
    return tuple(
        Check(
            name=f"forgetting: {domain}",
            question=f"Is the tuned model about as good on {domain} as its base?",
            answer="unmeasured",
            evidence=reason,
            blocking=blocking,
        )
        for domain, blocking in ((ALL_TEXT, text_blocking), (ALL_PROBES, probe_blocking))
    )


def _finite(asked: list[ScoredText], log_probs: LogProbs) -> list[float]:
    nats = [float(value) for value in log_probs(asked)]
    for text, value in zip(asked, nats, strict=True):
        if not math.isfinite(value):
            raise UserError(
                f"the model gives log-probability {value} to {text.continuation[:60]!r}",
                "its weights are damaged or its training diverged: train again with a lower learning rate",
                exit_code=3,
            )
    return nats


def _text_change(
    base: GeneralScores,
    tuned: GeneralScores,
    name: str,
    chosen: Sequence[int],
    margin: float,
    level: float,
) -> Forgetting:
    sizes = [base.texts[index].byte_count for index in chosen]
    groups = _documents(base, chosen)
    base_bits = [base.text_bits[index] for index in chosen]
    tuned_bits = [tuned.text_bits[index] for index in chosen]
    return Forgetting(
        domain=name,
        kind="text",
        items=len(chosen),
        base=ratio_interval(base_bits, sizes, groups, level),
        tuned=ratio_interval(tuned_bits, sizes, groups, level),
        change=relative_change_interval(tuned_bits, base_bits, groups, level),
        margin=margin,
    )


def _documents(scores: GeneralScores, chosen: Sequence[int]) -> list[str]:
    """What a text was taken from: passages of one document are one group."""
    return [f"{scores.texts[index].domain}/{scores.texts[index].source}" for index in chosen]


def _probe_change(
    items: Sequence[ProbeItem],
    base: ProbeScores,
    tuned: ProbeScores,
    name: str,
    chosen: Sequence[int],
    margin: float,
    level: float,
) -> Forgetting:
    groups = [items[index].group for index in chosen]
    base_right, base_nats = _answers(items, base, chosen)
    tuned_right, tuned_nats = _answers(items, tuned, chosen)
    accuracy = proportion_interval(base_right, groups, level)
    guessing = float(np.mean([1 / len(items[index].options) for index in chosen]))
    return Forgetting(
        domain=name,
        kind="probe",
        items=len(chosen),
        base=accuracy,
        tuned=proportion_interval(tuned_right, groups, level),
        change=score_change(tuned_right, base_right, groups, level),
        log_probability_change=mean_interval(np.subtract(tuned_nats, base_nats), groups, level),
        at_chance=accuracy.low <= guessing,
        margin=margin,
    )


def _answers(
    items: Sequence[ProbeItem], scores: ProbeScores, chosen: Sequence[int]
) -> tuple[list[bool], list[float]]:
    """Is the answer right, and the right option's log-probability among the item's options."""
    right, nats = [], []
    for index in chosen:
        options = np.array(scores.log_probabilities[index])
        right.append(int(options.argmax()) == items[index].right)
        nats.append(float(options[items[index].right] - np.logaddexp.reduce(options)))
    return right, nats


def score_change(tuned: npt.ArrayLike, base: npt.ArrayLike, groups: Sequence[str], level: float) -> Estimate:
    """Mean change of scores in 0 to 1, paired by item; [−1, 1] with fewer than 50 groups."""
    gain = paired_score_gain(tuned, base, groups, "base", alpha_one_sided=(1 - level) / 2)
    measured = gain.low is not None and gain.high is not None
    return Estimate(
        value=gain.value,
        low=-1.0 if gain.low is None else gain.low,
        high=1.0 if gain.high is None else gain.high,
        rows=gain.rows,
        groups=gain.groups,
        level=gain.level,
        method="paired change, cluster-t with pseudo-rows" if measured else "unmeasured: too few groups",
    )


def guard_check(change: Forgetting, margin: float, blocking: bool) -> Check:
    """Non-inferiority of one domain. Unmeasured as in ``guard_checks``."""
    moved = change.change
    if change.kind == "text":
        question = f"Does {change.domain} cost at most {margin:.1%} more bits than with the base?"
        scores = f"{change.base.value:.3f} to {change.tuned.value:.3f} bits per byte"
        worse, unit = moved, "%"
    else:
        question = f"Is accuracy on {change.domain} at most {100 * margin:.1f} points below the base?"
        scores = f"accuracy {change.base.value:.1%} to {change.tuned.value:.1%}"
        worse, unit = replace(moved, value=-moved.value, low=-moved.high, high=-moved.low), "points"
    answer = non_inferior(worse, margin)
    reason = ""
    if change.at_chance:
        answer, reason = "unmeasured", "; the base only guesses here"
    elif moved.groups < FEWEST_GROUPS:
        answer, reason = "unmeasured", f"; fewer than {FEWEST_GROUPS} groups"
    value, low, high = (signed(100 * number) for number in (moved.value, moved.low, moved.high))
    return Check(
        name=f"forgetting: {change.domain}",
        question=question,
        answer=answer,
        evidence=f"{scores}, {value} [{low}, {high}] {unit}; margin {100 * margin:.1f}; "
        f"{change.items:,} items in {moved.groups:,} groups{reason}",
        blocking=blocking,
        estimate=moved,
    )
