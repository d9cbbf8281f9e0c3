"""Stage 2: what the test can tell, and what the run will take on this machine, before anything is trained."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.data.portions import QUARTERS, SMALLER
from tunesmith.errors import UserError
from tunesmith.models.size import count_parameters
from tunesmith.power_records import PowerPoint
from tunesmith.records import Dataset, Plan, Row
from tunesmith.run_records import PilotPower
from tunesmith.stages.answering import (
    WATCHED_QUESTIONS,
    cutting_of,
    judging_identity,
    judging_of,
    opponents_identity,
)
from tunesmith.stages.bases import check_memory, other_bases
from tunesmith.stages.crossfit_plan import crossfit_plan, judged_counts, raised_variance, rounds
from tunesmith.stages.embedding import embedding_seconds, embeddings_sha256
from tunesmith.stages.label_prompts import prompt_tokens
from tunesmith.stages.label_training import METRIC_ROWS
from tunesmith.stages.memory import available_mb, give_back, held_mb, resident_mb, start_measuring
from tunesmith.stages.opponents import classical_seconds, strong_opponents
from tunesmith.stages.plan_methods import memory_for, planned_methods
from tunesmith.stages.plan_power import pilot_power_of, planned_guards
from tunesmith.stages.reasoning import reasoned_seconds, reasons
from tunesmith.stages.session import Session, machine
from tunesmith.stages.text_speed import seconds_by_row
from tunesmith.stages.together import gather, other_datasets
from tunesmith.stats.levels import alpha_for_opening
from tunesmith.stats.power import power_points, rows_needed
from tunesmith.workspace import cached, stage_key

if TYPE_CHECKING:
    from tunesmith.evaluation.judging import Judging
    from tunesmith.models.loading import LoadedModel
    from tunesmith.models.rendering import Renderer, Tokens
    from tunesmith.training.memory_choice import MemoryChoice

PACKAGES = (
    "tunesmith.engine",
    "tunesmith.models",
    "tunesmith.training",
    "tunesmith.candidates",
    "tunesmith.stats",
    "tunesmith.evaluation",
    "tunesmith.data.audit.groups",
    "tunesmith.records",
    "tunesmith.plan_records",
    "tunesmith.power_records",
    "tunesmith.stages.plan",
    "tunesmith.stages.crossfit_plan",
    "tunesmith.stages.plan_methods",
    "tunesmith.stages.plan_power",
    "tunesmith.stages.answering",
    "tunesmith.stages.harness",
    "tunesmith.stages.harness_model",
    "tunesmith.stages.label_prompts",
    "tunesmith.stages.text_speed",
)


@dataclass(frozen=True)
class PlanResult:
    """The plan, and the seconds it took to make. ``pilot``: the power in a metric without a formula."""

    plan: Plan
    seconds: float
    pilot: PilotPower | None = None


def make_plan(session: Session, dataset: Dataset) -> PlanResult:
    """Statistical power of the sealed test under the verdict rule; time and memory by a probe on real rows.

    The probe runs a few training steps and scores a few rows, on a copy of the base that is thrown away.
    Raises UserError when rows do not fit the base's context.
    """
    task = session.task
    inputs = {
        "dataset": dataset.manifest.version,
        "goal": task.goal.model_dump(),
        "guards": task.guards.model_dump(),
        "instruction": task.instruction,
        "opponents": opponents_identity(task),
        "train": task.train.model_dump(),
        "also": [(other.task.instruction, data.manifest.version) for other, data in other_datasets(session)],
        "judging": judging_identity(task),
        "base": session.base().sha256,
        "bases": [base.sha256 for base in other_bases(session)],
        "embeddings": embeddings_sha256(session),
        "machine": machine(),
    }
    folder = session.folder.stage("plan", stage_key("plan", inputs, PACKAGES))
    return cached(folder, PlanResult, lambda _: _plan(session, dataset))[0]


def _plan(session: Session, dataset: Dataset) -> PlanResult:
    from tunesmith.data.versions import load_folds, read_split
    from tunesmith.data.windowed import in_windows
    from tunesmith.engine.devices import find_device, free_mb
    from tunesmith.engine.precision import probe_precision
    from tunesmith.evaluation.judging import check_scope, learned_rows, questions, taught_rows
    from tunesmith.models.rendering import check_rendering
    from tunesmith.stages.general import check_guards
    from tunesmith.training.fit import TOKENS_PER_MICRO_BATCH
    from tunesmith.training.long_rows import training_rows
    from tunesmith.training.memory import MIB, after_probe
    from tunesmith.training.optimisers import check_optimiser
    from tunesmith.training.validation import watched_training_rows

    check_optimiser(session.task.train)
    started = time.perf_counter()
    goal = session.task.goal
    folds = load_folds(dataset)
    test = judged_counts(dataset, folds)
    # Rows of one group may be right or wrong as one; until that is measured, it is assumed.
    design_effect = test.rows / test.groups
    alpha = alpha_for_opening(1, goal.alpha)
    metric = session.task.metric
    variance = design_effect * raised_variance(folds)
    power = power_points(test.rows, variance, goal.gain, alpha, goal.rule) if metric == "accuracy" else ()

    device = find_device(session.task.train.device)
    probe = probe_precision(str(device))
    session.say("measuring speed and memory on a few of the rows")
    judging = judging_of(session.task, dataset.manifest.labels)
    train = taught_rows(judging, read_split(dataset, "train"))
    validation = learned_rows(judging, read_split(dataset, "validation"))
    for version in (dataset, *folds):
        check_scope(judging, read_split(version, "validation"))
    renderer = _renderer(session, judging.labels, probe.precision)
    check_guards(renderer, session.task.guards)
    cutting = cutting_of(session.task)
    trained_on = training_rows(renderer, session.task.instruction, train, session.task.train, cutting)
    check_rendering(renderer, trained_on.tokens, trained_on.rows)
    train_tokens = gather(renderer, session, dataset, trained_on).trained_on.tokens
    taught = in_windows(taught_rows(judging, validation), cutting).rows
    validation_tokens = _checked(session, renderer, taught, "validation")
    # Folds train on rows of either split. What other families hold is not planned: it is measured alone.
    held = [*train_tokens, *(validation_tokens if folds else ())]
    decoder = renderer.family == "decoder"
    memory = memory_for(session, session.task.train, held, probe.precision) if decoder else None
    on_gpu = device.type == "cuda"
    before_mb = 0.0 if on_gpu else resident_mb()
    loaded = _loaded(session, renderer, probe.precision)
    start_measuring(device)
    seconds = _measure(session, loaded, held, train, validation, judging, memory)
    probed_mb = held_mb(device) - before_mb
    peak = before_mb + probed_mb
    if memory is not None:
        peak = before_mb + after_probe(memory.plan, round(probed_mb * MIB)) / MIB
    asked = questions(judging, validation)
    asked_of_test = test.rows * len(asked) / len(validation)
    settings = session.task.train
    trained = round(sum(len(tokens.ids) for tokens in train_tokens) * settings.epochs)
    watched = [train_tokens[row] for row in watched_training_rows(len(train_tokens))]
    validated = sum(len(tokens.ids) for tokens in (*validation_tokens, *watched))
    validations = max(1.0, settings.validations_per_epoch * settings.epochs)
    watched_rows = METRIC_ROWS if judging.kind == "classify" else WATCHED_QUESTIONS
    watched_metric = min(watched_rows, len(asked)) if settings.watch_metric else 0
    measured_rows = validations * watched_metric
    sizes = _relative_sizes(session, probe.precision)
    reasoning_sizes = _reasoning_sizes(session)
    times = rounds(dataset, folds)

    def one_training(trained_token: float, validated_token: float) -> float:
        """Answering is a forward pass, like validation, so it is as many times slower."""
        tuned_row = seconds.tuned_row * validated_token / seconds.validated_token
        asking = (len(asked) + measured_rows) * tuned_row
        return trained * trained_token + validations * validated * validated_token + asking

    own_training = one_training(seconds.trained_token, seconds.validated_token)
    del loaded  # one base in memory at a time
    methods = planned_methods(
        session,
        judging.labels,
        train_tokens,
        probe.precision,
        decoder,
        lambda trained_token, validated_token: (
            one_training(trained_token, validated_token)
            + seconds.general_texts * validated_token / seconds.validated_token
        ),
    )
    smaller = sum(SMALLER) / QUARTERS if settings.learning_curve else 0.0
    train_seconds = (len(settings.seeds or [settings.seed]) * times + smaller) * own_training
    compared_seconds = sum(method.estimated_seconds for method in methods)
    compared_seconds += seconds.general_texts if methods else 0.0  # of the chosen one
    give_back()  # of the models probed
    pilot_of = pilot_power_of(session, dataset, train, validation)
    plan = Plan(
        test_rows=test.rows,
        test_groups=test.groups,
        design_effect=design_effect,
        goal_gain=goal.gain,
        alpha_one_sided=alpha,
        power=power,
        precision=probe.precision,
        matmul_gflops=probe.bf16_gflops if probe.precision == "bf16" else probe.fp32_gflops,
        tokens_per_second=1 / seconds.trained_token,
        train_tokens=trained,
        estimated_train_seconds=train_seconds + compared_seconds,
        estimated_opponents_seconds=times
        * (
            len(asked) * sum(seconds.prompt_rows) * sum(sizes)
            + len(asked) * seconds.reasoned_row * sum(reasoning_sizes)
            + seconds.classical
        ),
        estimated_verdict_seconds=asked_of_test
        * (
            max(
                max(seconds.prompt_rows, default=0.0) * max(sizes),
                seconds.reasoned_row * max(reasoning_sizes, default=0.0),
            )
            + seconds.tuned_row
        )
        + seconds.general,
        estimated_peak_memory_mb=max([peak, *(method.estimated_peak_memory_mb for method in methods)]),
        available_memory_mb=free_mb(device) if on_gpu else available_mb(),
        micro_batch_tokens=memory.micro_batch_tokens if memory else TOKENS_PER_MICRO_BATCH,
        recompute=memory is not None and memory.recompute,
        guards=planned_guards(session, test, asked.rows),
        metric=metric,
        strong_opponents=strong_opponents(session),
        crossfit=crossfit_plan(session, dataset, folds, power, pilot_of, train_seconds, compared_seconds),
        rows_needed=_rows_needed(power, variance, goal.gain, alpha),
        methods=methods,
    )
    pilot = pilot_of(test.groups, raised_variance(folds))
    return PlanResult(plan, time.perf_counter() - started, pilot)


def _rows_needed(
    power: Sequence[PowerPoint], variance: float, goal_gain: float, alpha: float
) -> tuple[int, int] | None:
    """Test rows that would tell a gain of the goal from none, over the assumed range of disagreement."""
    if not power or not goal_gain > 0:
        return None
    shares = [point.discordant for point in power]
    return rows_needed(min(shares), max(shares), variance, goal_gain, alpha)


def _relative_sizes(session: Session, precision: str) -> list[float]:
    """Parameters of the prompted bases as multiples of the task's own, which is first.

    A prompt takes about as much longer. Raises UserError where one does not fit into memory.
    """
    others = other_bases(session)
    for base in others:
        check_memory(base, precision)
    counts = [count_parameters(Path(base.folder)) for base in (session.base(), *others)]
    return [count / counts[0] for count in counts]


def _reasoning_sizes(session: Session) -> list[float]:
    """Parameters of the bases that think first, as multiples of the task's own."""
    whole = count_parameters(Path(session.base().folder))
    thinking = [base for base in (session.base(), *other_bases(session)) if reasons(session.task, base)]
    return [count_parameters(Path(base.folder)) / whole for base in thinking]


def _renderer(session: Session, labels: tuple[str, ...], precision: str) -> Renderer:
    """What renders the rows: a decoder's tokenizer, so that memory is planned before weights are loaded."""
    from tunesmith.engine.classifier_head import with_head
    from tunesmith.models.tokenizing import add_tokens, base_family, load_tokenizer

    settings, family = session.task.train, base_family(session.base())
    if family == "encoder" and session.task.kind != "classify":
        raise UserError(
            f"base: {session.base().name} answers by a classification head and cannot write texts",
            fix="choose a decoder-only or encoder–decoder base, or kind: classify",
        )
    if family == "decoder":
        return add_tokens(load_tokenizer(session.base()), settings.add_tokens or ())
    if settings.add_tokens:
        raise UserError(
            f"train.add_tokens: {session.base().name} is not a decoder-only base",
            fix="leave train.add_tokens out, or choose a decoder-only base",
        )
    return with_head(session.load_again(precision), labels, settings.seed)


def _loaded(session: Session, renderer: Renderer, precision: str) -> LoadedModel:
    from tunesmith.models.loading import LoadedModel

    return renderer if isinstance(renderer, LoadedModel) else session.load_again(precision)


def _checked(session: Session, loaded: Renderer, rows: list[Row], name: str) -> list[Tokens]:
    from tunesmith.models.rendering import check_lengths, check_rendering, instructed, render_row

    tokens = [render_row(loaded, instructed(session.task.instruction, row), row.target) for row in rows]
    check_lengths(loaded, rows, [len(row.ids) for row in tokens], f"{name} rows")
    check_rendering(loaded, tokens, rows)
    return tokens


@dataclass(frozen=True)
class _Seconds:
    """Measured on this machine, per unit; ``classical`` and ``general`` are for all of it, ``general_texts``
    for those texts once."""

    trained_token: float
    validated_token: float
    prompt_rows: tuple[float, ...]
    tuned_row: float
    reasoned_row: float
    classical: float
    general: float
    general_texts: float


def _measure(
    session: Session,
    loaded: LoadedModel,
    tokens: list[Tokens],
    train: list[Row],
    validation: list[Row],
    judging: Judging,
    memory: MemoryChoice | None,
) -> _Seconds:
    from tunesmith.data.windowed import in_windows
    from tunesmith.engine.adapters import continue_from, make_trainable
    from tunesmith.engine.added_tokens import grow
    from tunesmith.stages.general import scored_tokens, text_tokens
    from tunesmith.stages.harness import planned_seconds
    from tunesmith.training.batches import sharing_of, tokens_read_once
    from tunesmith.training.measure import measure_steps

    task = session.task
    labelled = judging.kind == "classify"
    read_by_prompts = prompt_tokens(session, loaded, judging, train, validation) if labelled else []
    loaded = grow(loaded, task.train.add_tokens or ())
    make_trainable(loaded.model, task.train, loaded.head, len(loaded.tokenizer))
    if task.train.start_from is not None:
        continue_from(loaded.model, task.resolve(task.train.start_from), loaded.base.sha256, task.train)
    if memory is None:
        rates = measure_steps(loaded, tokens, task.train)
    else:
        rates = measure_steps(
            loaded, tokens, task.train, memory.largest.rows, memory.micro_batch_tokens, memory.recompute
        )
    read = rates.read_tokens_per_second
    if labelled:
        prompt_rows = tuple(count / read for count in read_by_prompts)
        windows = len(in_windows(validation, cutting_of(task)).rows) / len(validation)
        once = tokens_read_once(tokens, sharing_of(tokens, family=loaded.family))
        tuned_row = windows * once / len(tokens) / read
    else:
        prompt_rows, tuned_row = seconds_by_row(session, loaded, judging, train, validation, read)
    return _Seconds(
        trained_token=1 / rates.train_tokens_per_second,
        validated_token=1 / rates.validation_tokens_per_second,
        prompt_rows=prompt_rows,
        tuned_row=tuned_row,
        reasoned_row=reasoned_seconds(session, loaded, judging, validation)
        if _reasoning_sizes(session)
        else 0.0,
        classical=(classical_seconds(task.kind, train) if task.opponents.classical else 0.0)
        + embedding_seconds(session, train, validation),
        general=(2 * scored_tokens(loaded) / read if loaded.family == "decoder" else 0.0)
        + planned_seconds(loaded, task),
        general_texts=text_tokens(loaded) / read if loaded.family == "decoder" else 0.0,
    )
