"""A model that judges beside people: an endpoint, or a local base, asked as ``review.judge`` says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tunesmith.errors import UserError
from tunesmith.evaluation.judges import (
    JUDGE_LABELS,
    Comparison,
    Judge,
    comparison_row,
    judge_criterion,
    judge_instruction,
    read_choice,
)
from tunesmith.evaluation.review import Choice, draw_pairs
from tunesmith.files import content_hash, read_record, write_json
from tunesmith.people_records import JudgeResult
from tunesmith.stages.bases import loaded_base
from tunesmith.stages.review import (
    Contest,
    all_judgements,
    answers_of,
    contest_of,
    pairs_of,
    validation_questions,
)
from tunesmith.stages.session import Session
from tunesmith.task import Task

if TYPE_CHECKING:  # torch takes seconds to import
    from tunesmith.candidates.answer_store import AnswerStore
    from tunesmith.models.loading import LoadedModel
    from tunesmith.task.opponent_settings import EndpointSettings

SETTING = "review.judge.endpoint"


def run_judge(session: Session) -> JudgeResult:
    """Hold the judge to what people said, and ask it about more pairs where it agrees with them.

    Every answer of an endpoint is on disk before the next is asked for: after an error, or Ctrl-C, the same
    call goes on from there. Raises UserError where the task names no judge, an endpoint fails (exit code 3),
    or a base cannot be loaded.
    """
    task, folder, settings = session.task, session.folder, session.task.review.judge
    if settings is None:
        raise UserError(
            "review.judge: the task names no judge", "add a section with endpoint or base (docs/people.md)"
        )
    contest = contest_of(task, folder)
    known = pairs_of(task, folder, contest)
    judgements = all_judgements(task, contest)
    _, asked = validation_questions(task, folder, contest)
    both = answers_of(contest.tuned), answers_of(contest.opponent)
    pairs = draw_pairs(asked.rows, *both, settings.items, task.split.seed)

    def judged(judge: Judge, name: str) -> JudgeResult:
        criteria = tuple(
            judge_criterion(judge, name, known, judgements, pairs, criterion)
            for criterion in task.review.criteria
        )
        return JudgeResult(name, judgements_sha256(task, contest), criteria, 0.0)

    if settings.endpoint is not None:
        from tunesmith.candidates.answer_store import AnswerStore

        endpoint = settings.endpoint
        path = contest.where / f"judge-{endpoint.name}.jsonl"
        # What it cost in earlier runs counts against the cap, too.
        store = AnswerStore(path, [one for one in contest.where.parent.glob(f"*/{path.name}") if one != path])
        judge = endpoint_judge(session, endpoint, settings.rubric, store)
        result = replace(judged(judge, f"{endpoint.name} ({endpoint.model})"), spend=store.spent)
    else:
        assert settings.base is not None  # a rule of the task
        base = session.find_base(settings.base)
        precision = contest.summary.plan.precision
        with loaded_base(session, base, precision) as loaded:
            if loaded.family == "encoder":
                raise UserError(
                    f"review.judge.base: {base.name} answers by a classification head and cannot judge",
                    "choose a decoder-only or encoder–decoder base, or an endpoint",
                )
            result = judged(local_judge(session, loaded, settings.rubric), base.name)
    write_json(contest.where / "judge.json", result)
    return result


def judge_result(task: Task, contest: Contest) -> JudgeResult | None:
    """What the judge said; None where it was not asked, or people have said more since."""
    path = contest.where / "judge.json"
    if task.review.judge is None or not path.is_file():
        return None
    try:
        result = read_record(path, JudgeResult)
    except ValueError:  # of another version
        return None
    return result if result.judgements_sha256 == judgements_sha256(task, contest) else None


def judgements_sha256(task: Task, contest: Contest) -> str:
    """Names what people said, and whom they are compared with."""
    return content_hash([all_judgements(task, contest), task.review.model_dump(exclude={"blocking"})])


def endpoint_judge(session: Session, endpoint: EndpointSettings, rubric: str, store: AnswerStore) -> Judge:
    """The endpoint as a judge; its answers are kept in ``store``. Errors as in ``answers_by_endpoint``."""
    from tunesmith.candidates.endpoints import EndpointPrompting, answers_by_endpoint
    from tunesmith.candidates.forms import PromptForm

    form = PromptForm(reasoning=endpoint.chain_of_thought)

    def judge(comparisons: Sequence[Comparison], criterion: str) -> list[Choice | None]:
        told = judge_instruction(rubric, criterion)
        prompting = EndpointPrompting(endpoint, told, JUDGE_LABELS, None, (), setting=SETTING)
        rows = [comparison_row(one, session.task.instruction) for one in comparisons]
        with session.bar("judge", f"{endpoint.name}, {criterion}") as report:
            answers = answers_by_endpoint(prompting, form, rows, store, report)
        return [read_choice(answer) for answer in answers.labels]

    return judge


def local_judge(session: Session, loaded: LoadedModel, rubric: str) -> Judge:
    """A base as a judge: the label with the highest exact log-probability, which can always be read."""
    from tunesmith.candidates.forms import PromptForm
    from tunesmith.candidates.prompts import Prompting, score_prompt

    def judge(comparisons: Sequence[Comparison], criterion: str) -> list[Choice | None]:
        prompting = Prompting(loaded, judge_instruction(rubric, criterion), JUDGE_LABELS, ())
        rows = [comparison_row(one, session.task.instruction) for one in comparisons]
        with session.bar("judge", f"{loaded.base.name}, {criterion}") as report:
            scores = score_prompt(prompting, PromptForm(), rows, None, report)
        return [read_choice(JUDGE_LABELS[best]) for best in scores.log_probabilities.argmax(axis=1)]

    return judge
