"""The rules between the settings of a task: what must, and what must not, be given together."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from tunesmith.task.compared_methods import broken_method_rules
from tunesmith.task.embedding_rules import broken_embedding_rules
from tunesmith.task.kinds import GOAL_METRICS, GROUNDED_KINDS, KINDS, LABELLED, SMALLER_IS_BETTER, VOTED_KINDS
from tunesmith.task.lines import Where
from tunesmith.task.opponent_settings import ENDPOINT_FEW_SHOT, PLACEHOLDERS
from tunesmith.task.reasoning_rules import broken_reasoning_rules

_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_TRANSFORMATIONS = ("lower_case", "stop_words", "spelling", "classical_stop_words", "classical_spelling")
_WHY_NOT = (
    "a language model is never given changed text: it was trained on text as people write it, so case, small "
    "words and mistakes mean something to it, and in use it is asked with unchanged text. For the classical "
    "opponent there are opponents.classical_lower_case, classical_stop_words and classical_spelling"
)

_HOLDS = {"input": "what the model is given", "target": "the right answer"}


def broken_rules(task: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    """Rules between settings that ``task`` breaks, each with the setting to blame.

    ``task`` is what a file says, unvalidated: values of a wrong type are passed over, not judged.
    """
    data, split, opponents, train = (task.get(name) for name in ("data", "split", "opponents", "train"))
    for section, settings in (("data", data), ("train", train)):
        for name in _TRANSFORMATIONS:
            if isinstance(settings, Mapping) and name in settings:
                yield (section, name), _WHY_NOT
    if isinstance(data, Mapping):
        yield from _broken_data_rules(data)
    if isinstance(split, Mapping):
        yield from _broken_split_rules(split)
    if isinstance(data, Mapping) and isinstance(split, Mapping):
        yield from _broken_split_column_rules(split, data)
        if split.get("given") is not None:
            if data.get("test_path") is not None:
                yield ("split", "given"), "not together with data.test_path: leave one of the two out"
        elif split.get("test") is None and data.get("test_path") is None:
            yield ("split",), "the test is missing: give split.test, or a file of its own as data.test_path"
        elif split.get("test") is not None and data.get("test_path") is not None:
            yield ("split", "test"), "there is already a test file (data.test_path): leave one of the two out"
    if isinstance(split, Mapping):
        yield from _broken_crossfit_rules(split, task)
    yield from _broken_kind_rules(task)
    yield from broken_embedding_rules(task)
    yield from broken_reasoning_rules(task)
    if isinstance(opponents, Mapping):
        yield from _broken_opponent_rules(opponents)
    review = task.get("review")
    judge = review.get("judge") if isinstance(review, Mapping) else None
    if isinstance(judge, Mapping):
        yield from _broken_judge_rules(judge)
    guards = task.get("guards")
    if isinstance(guards, Mapping) and isinstance(data, Mapping):
        yield from _broken_guard_rules(guards, data)
    if isinstance(train, Mapping):
        yield from _broken_watch_rules(train)
        yield from _broken_train_rules(train)
        yield from broken_method_rules(train)


def _broken_kind_rules(task: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    kind = task.get("kind")
    if kind not in KINDS:
        return
    goal, data, train = (task.get(name) for name in ("goal", "data", "train"))
    named = goal.get("metric") if isinstance(goal, Mapping) else None
    metric = named if isinstance(named, str) else None
    known = GOAL_METRICS[kind]
    if metric is not None and ":" not in metric and metric not in known:
        near = difflib.get_close_matches(metric, known, n=1)
        fix = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}"
        yield ("goal", "metric"), f"{metric!r} is no metric for kind: {kind} ({fix}; or file.py:function)"
    watches = isinstance(train, Mapping) and train.get("watch_metric") is True
    if watches and metric in SMALLER_IS_BETTER:
        yield ("train", "watch_metric"), f"{metric} should be small: it cannot be watched, leave it out"
    if kind == "classify" and task.get("max_new_tokens") is not None:
        yield ("max_new_tokens",), "labels are scored, not written: leave it out with kind: classify"
    if kind == "tag" and isinstance(data, Mapping):
        for name in ("messages", "rejected"):
            if data.get(name) is not None:
                yield ("data", name), "with kind: tag name the input and the list of labels: input and target"
        if data.get("window_words") is not None:
            yield ("data", "window_words"), "lists of labels are not merged over windows: not with kind: tag"
    if kind != "tag" and isinstance(data, Mapping) and data.get("label_separator") is not None:
        yield ("data", "label_separator"), f"only for kind: tag, not {kind}: leave it out"
    if kind != "extract" and task.get("json_schema") is not None:
        yield ("json_schema",), f"only for kind: extract, not {kind}: leave it out"
    if kind == "extract" and metric == "schema_valid" and task.get("json_schema") is None:
        yield ("goal", "metric"), "schema_valid needs a schema: give json_schema"
    guards = task.get("guards")
    if kind not in GROUNDED_KINDS and isinstance(guards, Mapping) and guards.get("grounding"):
        yield (
            ("guards", "grounding"),
            f"only for kind: {' and '.join(GROUNDED_KINDS)}, not {kind}: leave it out",
        )
    if task.get("none_of_these") is not None:
        if kind == "tag":
            why = "a row that no label fits has the empty list with kind: tag: leave it out"
            yield ("none_of_these",), why
        elif kind != "classify":
            yield ("none_of_these",), f"there are no labels with kind: {kind}: leave it out"
        if isinstance(train, Mapping) and train.get("also"):
            yield ("none_of_these",), "not together with train.also: leave one of the two out"
        if watches:
            why = "the threshold is chosen after training, so the metric cannot be watched: leave it out"
            yield ("train", "watch_metric"), why
    opponents = task.get("opponents")
    templates = opponents.get("templates") if isinstance(opponents, Mapping) else None
    for index, template in enumerate(templates if isinstance(templates, (list, tuple)) else ()):
        if kind not in LABELLED and "{labels}" in str(template):
            yield (
                ("opponents", "templates", index),
                f"there are no labels with kind: {kind}: leave {{labels}} out",
            )
    endpoints = opponents.get("endpoints") if isinstance(opponents, Mapping) else None
    for index, one in enumerate(endpoints if isinstance(endpoints, (list, tuple)) else ()):
        if isinstance(one, Mapping) and one.get("samples", 1) != 1 and kind not in VOTED_KINDS:
            text = (
                f"no two free texts are the same, so there is no vote on them: leave it out with kind: {kind}"
            )
            yield ("opponents", "endpoints", index, "samples"), text
    none = task.get("none_of_these")
    if endpoints and isinstance(none, Mapping) and none.get("in_training") is False:
        why = "an endpoint says none of these only as a label it is told of: not with in_training: false"
        yield ("opponents", "endpoints"), why
    labels = data.get("most_frequent_labels") if isinstance(data, Mapping) else None
    train = task.get("train")
    if kind != "classify" and isinstance(train, Mapping) and train.get("also"):
        yield ("train", "also"), f"several tasks are trained in one run with kind: classify, not {kind}"
    if kind not in LABELLED and labels is not None:
        yield ("data", "most_frequent_labels"), f"there are no labels with kind: {kind}: leave it out"


def _broken_guard_rules(guards: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    kept = data.get("fields")
    kept = set(map(str, kept)) if isinstance(kept, (list, tuple)) else set()
    slices = guards.get("slices")
    slices = [one for one in slices if isinstance(one, Mapping)] if isinstance(slices, (list, tuple)) else []
    names = [str(one.get("name")) for one in slices]
    if len(set(names)) < len(names):
        yield ("guards", "slices"), "a name is given twice"
    for one in slices:
        try:
            re.compile(str(one.get("pattern")))
        except re.error as error:
            yield ("guards", "slices"), f"{one.get('pattern')!r} is not a regular expression: {error}"
    fairness = guards.get("fairness")
    fields = fairness.get("fields") if isinstance(fairness, Mapping) else None
    asked = [("slices", one.get("field")) for one in slices]
    asked += [("fairness", name) for name in fields] if isinstance(fields, (list, tuple)) else []
    for section, name in asked:
        if isinstance(name, str) and name not in kept:
            yield ("guards", section), f"the column {name!r} is not kept: add it to data.fields"


def _broken_split_rules(split: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    if split.get("given") is not None:
        for name in ("train", "validation", "test", "time", "seed"):
            if split.get(name):
                yield (
                    ("split", name),
                    "nothing is drawn where the splits are given (split.given): leave it out",
                )
    elif split.get("validation") is None:
        yield (
            ("split",),
            "split.validation is missing: the rows that choices are made on, such as 0.15 (or split.given)",
        )
    shares = [split.get(name) for name in ("train", "validation", "test")]
    total = sum(share for share in shares if isinstance(share, float) and 0 < share < 1)
    if total > 1 + 1e-9 or (total > 1 - 1e-9 and shares[0] is None):
        yield ("split",), f"the shares add up to {total:g}; together they must leave rows for every split"


def _broken_crossfit_rules(split: Mapping[str, Any], task: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    if split.get("test") != "crossfit":
        if split.get("folds") is not None:
            yield ("split", "folds"), "only with split.test: crossfit: leave it out"
        return
    for name, why in (
        ("train", "every fold is trained on all rows that validation does not take"),
        ("time", "folds have no order in time: later rows would teach how to judge earlier ones"),
    ):
        if split.get(name) is not None:
            yield ("split", name), f"not together with split.test: crossfit ({why}): leave one of the two out"
    for section, name, why in (
        ("data", "plan", "its repairs were found with rows that folds are judged on"),
        ("data", "train_extra", "such rows were made from rows that folds are judged on"),
        ("data", "window_words", "documents are not cut in folds yet"),
        ("train", "also", "its rows would have to be kept apart in every fold"),
    ):
        settings = task.get(section)
        if isinstance(settings, Mapping) and settings.get(name):
            yield (section, name), f"not together with split.test: crossfit ({why}): leave one of the two out"


def _broken_split_column_rules(
    split: Mapping[str, Any], data: Mapping[str, Any]
) -> Iterator[tuple[Where, str]]:
    together = split.get("keep_together")
    together = list(together) if isinstance(together, (list, tuple)) else []
    if len(set(map(str, together))) < len(together):
        yield ("split", "keep_together"), "a column is named twice"
    named = {"keep_together": together, "time": [split.get("time")], "given": [split.get("given")]}
    for name, columns in named.items():
        used = [column for column in columns if column is not None]
        if used and data.get("package") is not None:
            yield ("split", name), "not together with data.package, which has no other columns: leave it out"
        elif data.get("target") in used or data.get("messages") in used:
            yield ("split", name), "names the column of the right answer: name another one"


def _broken_opponent_rules(opponents: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    few_shot, retrieval = opponents.get("few_shot"), opponents.get("retrieval")
    retrieval = retrieval.get("k") if isinstance(retrieval, Mapping) else None
    if isinstance(few_shot, (list, tuple)):
        if len(set(map(str, few_shot))) < len(few_shot):
            yield ("opponents", "few_shot"), "a number is given twice"
        if (
            opponents.get("classical") is False
            and opponents.get("zero_shot") is False
            and not (few_shot or opponents.get("endpoints") or retrieval)
        ):
            yield ("opponents",), "all are off: a gain needs an opponent; leave at least one on"
    found_in = opponents.get("retrieval")
    if (
        isinstance(found_in, Mapping)
        and not found_in.get("k")
        and (found_in.get("documents") is not None or found_in.get("with_tuned") is True)
    ):
        yield ("opponents", "retrieval"), "k is missing: how many passages are shown, such as [3]"
    templates = opponents.get("templates")
    for index, template in enumerate(templates if isinstance(templates, (list, tuple)) else ()):
        unknown = sorted(set(_PLACEHOLDER.findall(str(template))) - set(PLACEHOLDERS))
        if unknown:
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            yield ("opponents", "templates", index), f"{{{unknown[0]}}} is no placeholder (known: {known})"
    endpoints = opponents.get("endpoints")
    if isinstance(endpoints, (list, tuple)):
        yield from _broken_endpoint_rules([one for one in endpoints if isinstance(one, Mapping)])


def _broken_endpoint_rules(endpoints: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Where, str]]:
    names = [str(one.get("name")) for one in endpoints]
    for index, endpoint in enumerate(endpoints):
        where: Where = ("opponents", "endpoints", index)
        if names[index] in names[:index]:
            yield (*where, "name"), f"{names[index]!r} is given twice"
        yield from _broken_endpoint(where, endpoint)


def _broken_endpoint(where: Where, endpoint: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    url = endpoint.get("url")
    if isinstance(url, str):
        problem = _url_problem(url, bool(endpoint.get("key_env")))
        if problem is not None:
            yield (*where, "url"), problem
    several = isinstance(endpoint.get("samples"), int) and endpoint["samples"] > 1
    if several and not endpoint.get("temperature"):
        yield (
            (*where, "samples"),
            "drawn at temperature 0 they are all the same: set temperature, such as 0.7",
        )
    prices = [endpoint.get(name) for name in ("price_in", "price_out")]
    priced = any(isinstance(price, (int, float)) and price > 0 for price in prices)
    if priced and endpoint.get("spend_cap") is None:
        yield where, "it has a price, so it needs a spend_cap: the most that this task may spend there"


def _broken_judge_rules(judge: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    endpoint = judge.get("endpoint")
    if (endpoint is None) == (judge.get("base") is None):
        yield ("review", "judge"), "give endpoint or base, one of the two"
    if isinstance(endpoint, Mapping):
        where: Where = ("review", "judge", "endpoint")
        yield from _broken_endpoint(where, endpoint)
        few_shot = endpoint.get("few_shot")
        if isinstance(few_shot, (list, tuple)) and tuple(few_shot) != ENDPOINT_FEW_SHOT:
            yield (*where, "few_shot"), "a judge is shown no examples: leave it out"


def _url_problem(url: str, has_key: bool) -> str | None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return f"{url!r} is no URL: give one such as https://api.openai.com/v1"
    if parts.scheme not in ("http", "https") or not host:
        return f"{url!r} is no URL: give one such as https://api.openai.com/v1"
    if parts.username or parts.password or parts.query:
        return "a key has no place in a URL: give the name of its environment variable as key_env"
    if has_key and parts.scheme == "http" and host not in _THIS_MACHINE:
        return f"a key would travel unencrypted to {host}: use https"
    return None


def _broken_watch_rules(train: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    if train.get("best_by") == "metric" and train.get("watch_metric") is not True:
        yield ("train", "best_by"), "metric is not measured while training: add train.watch_metric: true"


def _broken_train_rules(train: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    also = train.get("also")
    if isinstance(also, (list, tuple)) and len(set(map(str, also))) < len(also):
        yield ("train", "also"), "a task is given twice"
    seeds = train.get("seeds")
    if isinstance(seeds, (list, tuple)) and len(set(map(str, seeds))) < len(seeds):
        yield ("train", "seeds"), "a seed is given twice"
    for name in ("targets", "modules_to_save", "add_tokens"):
        given = train.get(name)
        if isinstance(given, (list, tuple)) and len(set(map(str, given))) < len(given):
            yield ("train", name), "a name is given twice"
    if train.get("method") != "full":
        return
    for name in ("adapter_dropout", "targets", "modules_to_save", "start_from"):
        if train.get(name):
            fix = (
                "; to go on from a fully tuned model, give its folder as base" if name == "start_from" else ""
            )
            yield ("train", name), f"not together with method: full, which has no adapter: leave it out{fix}"


def _broken_data_rules(data: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    low, high = data.get("min_words"), data.get("max_words")
    if isinstance(low, int) and isinstance(high, int) and low > high:
        yield ("data", "min_words"), f"above data.max_words ({low} > {high}): no row would be left"
    window, overlap = data.get("window_words"), data.get("window_overlap_words", 50)
    if isinstance(window, int) and isinstance(overlap, int) and overlap >= window:
        yield (
            ("data", "window_words"),
            f"not above data.window_overlap_words ({overlap}): windows would not move",
        )
    has = {name for name, value in data.items() if value is not None}
    columns = has & {"input", "target", "messages"}
    given = data.get("input")
    inputs = list(given) if isinstance(given, (list, tuple)) else [given]
    fields = data.get("fields")
    fields = list(fields) if isinstance(fields, (list, tuple)) else []
    if "package" in has:
        extras = has & {"path", "test_path", "rejected"} | ({"fields"} if fields else set())
        for name in sorted(columns | extras):
            yield (
                ("data", name),
                "not together with data.package, which brings its own: leave one of the two out",
            )
        return
    if "path" not in has:
        yield ("data",), "no rows: give data.path (your file) or data.package"
    if "messages" in columns:
        for name in sorted(columns - {"messages"}):
            yield ("data", name), "not together with data.messages: leave one of the two out"
    elif "path" in has:
        for name in sorted({"input", "target"} - columns):
            yield (
                ("data",),
                f"data.{name} is missing: the column that holds {_HOLDS[name]} (for chats: data.messages)",
            )
    if "target" in columns and data["target"] in inputs:
        yield (
            ("data", "target"),
            f"the same column as data.input ({data['target']!r}): the answer would be in the question",
        )
    if "rejected" in has and data["rejected"] in [*inputs, data.get("target"), data.get("messages")]:
        yield (
            ("data", "rejected"),
            f"{data['rejected']!r} is read already: name the column of the other answer",
        )
    for name, columns_of in (("input", inputs), ("fields", fields)):
        if len(set(map(str, columns_of))) < len(columns_of):
            yield ("data", name), "a column is named twice"
