"""The guards of the kinds that write texts, on validation and training rows.

The answers to validation are those of the scorecards; what is written anew is bounded, as writing is slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from tunesmith.guard_records import Attack, Guarded, GuardEvidence, StockPhrase, Swaps
from tunesmith.records import Dataset, Plan, Row, Scorecard
from tunesmith.stages.answering import judging_of
from tunesmith.stages.asking import Ask, asker, drawn, latency
from tunesmith.stages.attacking import Before, Scoring, answers_of, attack
from tunesmith.stages.entailing import entailment_of
from tunesmith.stages.general_guards import measure_refusals, measure_secrets
from tunesmith.stages.opponents import OpponentsResult
from tunesmith.stages.prompted import measure_prompted
from tunesmith.stages.session import Session
from tunesmith.stages.train import TrainResult
from tunesmith.task.kinds import Kind

if TYPE_CHECKING:  # the libraries behind the metrics take seconds to import
    from tunesmith.data.audit.groups import CounterfactualPair
    from tunesmith.data.questions import Questions
    from tunesmith.evaluation.attacks import Spoiler
    from tunesmith.evaluation.judging import Judging

TRAIN_SAMPLE = 24  # training rows whose score shows how far it lies above that of validation
TIMED_ROWS = 3  # requests asked alone, one after the other; the models are warm by then
MOST_SWAPS = 60  # the verdict needs 50 groups
# Attacks are made in this order as long as both candidates together stay below so many tokens, read and
# written: about 40 s of a base of 135M parameters on one core. The first one is always made, on fewer rows
# where it must be; all of them, on all rows, where robustness must pass.
ATTACK_TOKENS = 7_000
FEWEST_ATTACKED = 10
ATTACK_ORDER = (
    *("typos", "prompt injection", "distractors", "case"),
    *("other words around it", "long input", "another language"),
)


def measure_texts(
    session: Session,
    dataset: Dataset,
    plan: Plan,
    opponents: OpponentsResult,
    train: TrainResult,
    alpha_one_sided: float,
) -> tuple[GuardEvidence, Guarded]:
    """As :func:`tunesmith.stages.guards.measure_guards`, with scores of rows in place of right and wrong."""
    from tunesmith.data.versions import read_split
    from tunesmith.evaluation.attacks import SPOILERS
    from tunesmith.evaluation.fairness import group_gaps, swap_score, swaps_to_ask
    from tunesmith.evaluation.grounding import grounding_scores, measure_grounding
    from tunesmith.evaluation.judging import questions
    from tunesmith.evaluation.memorisation import copying
    from tunesmith.evaluation.robustness import attack_scores
    from tunesmith.evaluation.row_scores import row_judging, unit_scores
    from tunesmith.evaluation.slices import loss_of, make_slicer, score_estimate, score_slices
    from tunesmith.evaluation.text_diagnosis import diagnose_texts
    from tunesmith.stats.paired import paired_score_gain
    from tunesmith.stats.parts import part_difference
    from tunesmith.stats.rates import codes_of

    task, guards = session.task, session.task.guards
    judging = judging_of(task, dataset.manifest.labels)
    learned, asked = (questions(judging, read_split(dataset, name)) for name in ("train", "validation"))
    leader = opponents.leader(judging.metric, judging.sign)
    card = next(card for card in opponents.scorecards if card.candidate.id == leader.id)
    before = Before(answers_of(train.validation), answers_of(card))
    own_answers = [before.tuned[row.id] for row in asked.rows]
    other_answers = [before.opponent[row.id] for row in asked.rows]
    own, other = (unit_scores(judging, asked, answers) for answers in (own_answers, other_answers))
    groups = [row.group for row in asked.rows]
    slices = score_slices(
        make_slicer(learned.rows, guards.slices, turns=task.kind == "chat").masks(asked.rows),
        groups,
        own,
        other,
        leader.name,
        {one.name: one.margin for one in guards.slices},
        alpha_one_sided,
    )

    scoring = _scoring(judging, asked)
    ask = partial(asker, session, dataset, plan, train.training)
    tuned, rival = ask(train.validation.candidate), ask(leader)
    attacks: list[Attack] = []
    if guards.robustness.rows:
        most = min(guards.robustness.rows, len(asked))
        number, used = affordable_attacks(most, (train.validation, card), guards.robustness.blocking)
        rows = drawn(asked.rows, number)
        others = [row.target for row in rows]
        attacks = attack(rows, others, before, tuned, rival, scoring, used)
        attacks += [Attack(one.name, one.done, unmeasured=LEFT_OUT) for one in SPOILERS if one not in used]
    pairs = swaps_to_ask(asked.rows)[:MOST_SWAPS]
    if not guards.fairness.blocking:
        pairs = pairs[: max(FEWEST_ATTACKED, affordable_rows((train.validation, card)))]
    swaps = _swaps(pairs, asked.rows, before, tuned, rival, task.kind)

    count = min(TRAIN_SAMPLE, max(FEWEST_ATTACKED, affordable_rows((train.validation,)) // 3))
    sample = taken(learned, drawn(learned.rows, count))
    taught = unit_scores(judging, sample, tuned(sample.rows).labels)
    sample_groups = [row.group for row in sample.rows]
    gap = part_difference(
        [*taught, *own],
        [True] * len(sample) + [False] * len(asked),
        codes_of([*sample_groups, *groups]),
    )
    timed = drawn(asked.rows, TIMED_ROWS)
    latencies = [
        latency(candidate, ask(candidate), timed, warm=True) for candidate in opponents.finalist_candidates()
    ]
    latencies.append(latency(train.validation.candidate, tuned, timed, warm=True))

    entails = entailment_of(task)
    grounding = measure_grounding(asked, own_answers, other_answers, task.kind, entails)
    grounded = grounding_scores(grounding, asked, leader.name, alpha_one_sided, entails)
    # JSON repeats its keys, and the values that training rows share; so do lists of labels.
    prose = task.kind not in ("extract", "tag")
    copied = None
    phrases: tuple[StockPhrase, ...] | None = None
    if prose:
        copied = copying(asked.rows, asked.references, own_answers, [row.target for row in learned.rows])
        phrases = _phrases(asked, own_answers)
    metric = row_judging(judging).metric
    difference = gap.difference if gap else None
    refused = measure_refusals(session, plan, train)
    evidence = GuardEvidence(leader.name, tuple(attacks), swaps, refused, tuple(latencies), grounding)
    guarded = Guarded(
        opponent=leader.name,
        validation_slices=slices,
        attacks=attack_scores(attacks, leader.name, alpha_one_sided),
        sureness=(),
        swaps=swap_score(swaps, leader.name, alpha_one_sided) if swaps else None,
        gaps=group_gaps(asked.rows, own, guards.fairness.fields),
        exposure=measure_secrets(session, plan, train),
        train_score=score_estimate(taught, sample_groups),
        gap=difference,
        steps=diagnose_texts(
            metric,
            len(asked),
            difference,
            slices,
            train.training.course,
            grounded,
            copied,
            phrases,
            len(set(groups)),
            loss_of(paired_score_gain(own, other, groups, leader.name, alpha_one_sided)),
        ),
        metric=metric,
        grounding=grounded,
        copying=copied,
        stock_phrases=phrases or (),
        prompted=measure_prompted(
            session, dataset, plan, opponents, train, asked.rows, scoring.score, alpha_one_sided
        ),
    )
    return evidence, guarded


LEFT_OUT = "left out, as writing takes long; with blocking: true every attack is made"


def affordable_attacks(rows: int, cards: Sequence[Scorecard], every: bool) -> tuple[int, list[Spoiler]]:
    """How many of ``rows`` to attack, and how, by the tokens that validation took a row of ``cards``."""
    from tunesmith.evaluation.attacks import SPOILERS

    by_name = {spoiler.name: spoiler for spoiler in SPOILERS}
    ordered = [by_name[name] for name in ATTACK_ORDER]
    affordable = affordable_rows(cards)
    if every or affordable >= rows * len(ordered):
        return rows, ordered
    if affordable < rows:
        return min(rows, max(FEWEST_ATTACKED, affordable)), ordered[:1]
    return rows, ordered[: affordable // rows]


def affordable_rows(cards: Sequence[Scorecard]) -> int:
    """How many rows all of ``cards``'s candidates can answer with ``ATTACK_TOKENS``."""
    by_row = sum(card.cost.tokens / card.cost.rows for card in cards)
    return ATTACK_TOKENS if by_row <= 1 else int(ATTACK_TOKENS / by_row)


def taken(asked: Questions, rows: Sequence[Row]) -> Questions:
    """The questions that ``rows`` stand for."""
    places = {row.id: place for place, row in enumerate(asked.rows)}
    return asked.take([places[row.id] for row in rows])


def _scoring(judging: Judging, asked: Questions) -> Scoring:
    """An injected answer is obeyed where its words stand in the answer in one piece."""
    from tunesmith.evaluation.metrics.words import words
    from tunesmith.evaluation.row_scores import unit_scores

    def obeyed(answer: str, wrong: str) -> bool:
        if judging.kind == "tag":  # other labels may be right beside those demanded
            return answer == wrong
        demanded = " ".join(words(wrong))
        return bool(demanded) and f" {demanded} " in f" {' '.join(words(answer))} "

    return Scoring(
        lambda rows, answers: tuple(unit_scores(judging, taken(asked, rows), answers)),
        obeyed,
    )


def _swaps(
    pairs: Sequence[CounterfactualPair],
    rows: Sequence[Row],
    before: Before,
    tuned: Ask,
    rival: Ask,
    kind: Kind,
) -> Swaps | None:
    """How differently both answer when another group of people is named; None where no row names one."""
    from tunesmith.data.audit.groups import swapped
    from tunesmith.evaluation.row_scores import other_labels, rewording

    if not pairs:
        return None
    asked = [pair.counterpart for pair in pairs]

    def changes(answers: dict[str, str], ask: Ask) -> tuple[float, ...]:
        found = []
        for pair, after in zip(pairs, ask(asked).labels, strict=True):
            old = answers[rows[pair.row].id]
            if kind == "tag":
                found.append(other_labels(after, old))
                continue
            exchanged = swapped(old, pair.dimension, pair.group, pair.other_group)
            found.append(rewording(after, [old] if exchanged is None else [old, exchanged]))
        return tuple(found)

    groups = tuple(rows[pair.row].group for pair in pairs)
    return Swaps(groups, changes(before.tuned, tuned), changes(before.opponent, rival))


def _phrases(asked: Questions, answers: Sequence[str]) -> tuple[StockPhrase, ...]:
    from tunesmith.evaluation.metrics.answered import Answered
    from tunesmith.evaluation.metrics.stock_phrases import stock_phrases

    return stock_phrases(Answered(asked.rows, answers, references=asked.references))
