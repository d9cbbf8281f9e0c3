"""Run summaries for the tests of the report: realistic in shape and size, with illustrative numbers."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from tunesmith.data_records import (
    ExportedFile,
    MaskedRow,
    Part,
    RowChanges,
    RowExample,
    SinceVersion,
    VersionStory,
)
from tunesmith.files import content_hash
from tunesmith.power_records import PowerPoint
from tunesmith.records import (
    Answer,
    Candidate,
    CandidateKind,
    Check,
    Cost,
    Decision,
    Estimate,
    FileHash,
    Forgetting,
    Manifest,
    PairedGain,
    Plan,
    Scorecard,
    SetAside,
    Settings,
    SourceFile,
    SplitCounts,
    SplitName,
    Verdict,
)
from tunesmith.run_records import (
    Agreement,
    Confusion,
    ExampleDuel,
    RunSummary,
    Training,
    TrainPoint,
    ValidationPoint,
)

LABELS = ("apache-2.0", "bsd-new", "gpl-2.0-plus", "gpl-3.0-plus", "lgpl-2.1-plus", "mit", "mpl-2.0")
NOTICE = (
    "This library is free software; you can redistribute it and/or modify it under the terms of the GNU "
    "Lesser General Public License as published by the Free Software Foundation; either version 2.1 of the "
    "License, or (at your option) any later version."
)
SIZES: dict[SplitName, tuple[int, int]] = {
    "train": (1500, 1132),
    "validation": (400, 371),
    "test": (1200, 1043),
}
ACCURACY = {
    "majority class": (0.146, 0.143),
    "zero-shot, labels listed": (0.192, 0.188),
    "8 nearest examples, length-normalised and context-calibrated": (0.481, 0.469),
    "tuned classical (word, character and version n-grams; logistic regression)": (0.842, 0.8442),
    "smollm2-135m-instruct, LoRA r=16": (0.893, 0.8883),
}


def share(value: float, rows: int, groups: int, level: float = 0.95) -> Estimate:
    half = 1.96 * math.sqrt(max(value * (1 - value), 0.01) / groups)
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), rows, groups, level, "cluster-t")


def candidate(kind: CandidateKind, name: str) -> Candidate:
    base = None if kind in ("constant", "classical") else "smollm2-135m-instruct"
    classical: Settings = {"C": 10.0, "ngrams": ["word 1-2", "char 2-5"]}
    other: Settings = {"seed": 0}
    settings = classical if kind == "classical" else other
    return Candidate(content_hash([kind, name])[:12], kind, name, settings, base)


def scorecard(kind: CandidateKind, name: str, split: SplitName, seconds: float) -> Scorecard:
    rows, groups = SIZES[split]
    accuracy = ACCURACY[name][split == "test"]
    tokens = 0 if kind in ("constant", "classical") else 61 * rows
    return Scorecard(
        candidate(kind, name),
        split,
        {"accuracy": share(accuracy, rows, groups), "macro_f1": share(accuracy * 0.96, rows, groups)},
        {
            "accuracy": share(min(1, accuracy + 0.011), rows - 62, groups - 31),
            "macro_f1": share(min(1, accuracy * 0.96 + 0.013), rows - 62, groups - 31),
        },
        (),
        Cost(seconds, rows, tokens, 380.0 if tokens == 0 else 1490.0),
    )


def training() -> Training:
    random_source = random.Random(0)
    steps = range(1, 189)
    losses = [3.1 * math.exp(-step / 24) + 0.10 + 0.06 * random_source.random() for step in steps]
    return Training(
        train=tuple(
            TrainPoint(
                step, step / 94, loss * random_source.uniform(0.6, 1.5), 1e-3 * min(1, step / 10),
                4.2 * math.exp(-step / 60) + random_source.random(), 812 + random_source.uniform(-60, 50),
            )
            for step, loss in zip(steps, losses, strict=True)
        ),
        validation=tuple(
            ValidationPoint(step, step / 94, 2.4 * math.exp(-step / 22) + 0.118 + max(0, step - 150) * 3e-4)
            for step in (0, 24, 47, 71, 94, 118, 141, 165, 188)
        ),
        best_step=141,
        stopped_early=True,
        steps=188,
        trained_tokens=196_412,
        supervised_tokens=14_030,
        trainable_parameters=4_884_480,
        total_parameters=139_399_488,
        tokens_per_second=806.0,
        precision="bf16",
        threads=2,
        fast_paths=("shared prefix", "fused head", "LoRA linear"),
        cost=Cost(243.6, 1500, 196_412, 2310.0),
        adapter_folder="runs/licence-notices/adapter",
        adapter_sha256=content_hash("adapter"),
        agreement=Agreement(8, 0.031, 0.052),
    )  # fmt: skip


def manifest() -> Manifest:
    return Manifest(
        version=content_hash("version"),
        task="licence-notices",
        labels=LABELS,
        unmeasured_labels=("cc-by-sa-4.0", "openssl-ssleay"),
        source_rows=34_859,
        rows=7_155,
        groups=4_492,
        conflict_groups=129,
        splits={name: SplitCounts(*size, 0 if name == "train" else 62) for name, size in SIZES.items()},
        set_aside=(
            SetAside("rules that are not licence notices", 24_430, 0),
            SetAside("shorter than 6 or longer than 120 words", 2_011, 0),
            SetAside("not among the 30 most frequent expressions", 1_263, 0),
            SetAside("conflicting targets, not trained on", 318, 98),
            SetAside("more rows than the splits ask for", 3_737, 1_848),
        ),
        sources=(SourceFile("licensedcode-data 32.1.0", content_hash("wheel"), 34_859),),
        test_sha256=content_hash("test"),
        licence="CC-BY-4.0",
        attribution="ScanCode LicenseDB, nexB Inc. and others",
        recipe={"near_duplicate_jaccard": 0.8, "shingle_words": 3, "seed": 20},
        leaks=0,
        files=(FileHash("train.parquet", content_hash("train"), 412_881),),
    )


def plan() -> Plan:
    return Plan(
        test_rows=1200, test_groups=1043, design_effect=1.16, goal_gain=0.02, alpha_one_sided=0.05,
        power=(
            PowerPoint(0.10, 0.50, 0.66, 0.0289),
            PowerPoint(0.15, 0.47, 0.50, 0.0311),
            PowerPoint(0.20, 0.41, 0.41, 0.0355),
            PowerPoint(0.25, 0.36, 0.36, 0.0397),
        ),
        precision="bf16", matmul_gflops=861.0, tokens_per_second=790.0, train_tokens=201_000,
        estimated_train_seconds=254.0, estimated_opponents_seconds=95.0, estimated_verdict_seconds=130.0,
        estimated_peak_memory_mb=2600.0, available_memory_mb=15_200.0,
    )  # fmt: skip


MAJORITY, ZERO_SHOT, PROMPT, CLASSICAL, TUNED = ACCURACY


def gain(opponent: str, value: float, wins: int, losses: int) -> PairedGain:
    half, rows = 0.0205, 1200
    share_that_differs = (wins + losses) / rows
    return PairedGain(
        opponent, value, value - half, value + half, 0.90, rows, 1043, wins, losses, share_that_differs,
        1.16, 0.0125, None,
    )  # fmt: skip


def verdict(decision: Decision) -> Verdict:
    value, wins, answer, sentence = _ENDINGS[decision]
    gains = (gain(CLASSICAL, value, wins, wins - round(1200 * value)), gain(PROMPT, 0.4192, 540, 37))
    answers: tuple[Answer, ...] = (answer, "passed")
    against = tuple(
        Check(
            f"beats {gain.opponent}",
            f"Against {gain.opponent}, is the gain at least 2.0 points and its lower bound above 0?",
            answer,
            f"{100 * gain.value:+.1f} points [{100 * (gain.low or 0):.1f}, {100 * (gain.high or 0):.1f}]; "
            f"{gain.wins} won, {gain.losses} lost of 1,200 rows in 1,043 groups",
            True,
            Estimate(gain.value, gain.low or 0, gain.high or 0, 1200, 1043, 0.90, "paired cluster-t"),
        )
        for gain, answer in zip(gains, answers, strict=True)
    )
    return Verdict(
        decision,
        f"{sentence} (Bounds of the gain at one-sided 5 %: opening 1 of this test.)",
        CLASSICAL if decision == "DON'T" else None,
        (
            *against,
            Check(
                "forgetting: all text", "Does all text cost at most 3.0% more bits than with the base?",
                "passed", "0.921 to 0.928 bits per byte, +0.8 [+0.5, +1.1] %; margin 3.0; 412 items in 412 "
                "groups", False, Estimate(0.0081, 0.0052, 0.0109, 412, 412, 0.90, "paired cluster-t"),
            ),
            Check(
                "forgetting: arithmetic", "Is accuracy on arithmetic at most 2.0 points below the base?",
                "unmeasured", "accuracy 26.0% to 25.1%, -0.9 [-3.1, +1.3] points; margin 2.0; the base only "
                "guesses here", False,
            ),
        ),
        gains,
        (1600, 2900) if decision == "CANNOT TELL YET" else None,
        1,
        0.05,
        "estimate",
        0.02,
    )  # fmt: skip


_ENDINGS: dict[Decision, tuple[float, int, Answer, str]] = {
    "TRAIN": (
        0.0442, 101, "passed",
        "TRAIN. Tuned 88.8 % [86.9, 90.7]; gain over the best opponent (tuned classical) "
        "+4.4 points [2.4, 6.5].",
    ),
    "DON'T": (
        -0.0117, 60, "failed",
        "DON'T train: use tuned classical (84.4 % [82.2, 86.6]). Tuned 83.2 % [81.0, 85.4]; gain over it "
        "−1.2 points [−3.2, 0.9]: even the upper bound is below the goal of 2.0 points.",
    ),
    "CANNOT TELL YET": (
        0.0150, 80, "unmeasured",
        "CANNOT TELL YET. Tuned 85.9 % [83.8, 88.0]. Gain over tuned classical +1.5 points [−0.5, 3.6]; the "
        "goal is 2.0 points and a lower bound above 0. 1,600 to 2,900 test rows would tell a gain of 0 from "
        "the goal.",
    ),
}  # fmt: skip


def forgetting() -> tuple[Forgetting, ...]:
    def bits(value: float) -> Estimate:
        return Estimate(value, value * 0.97, value * 1.03, 200, 200, 0.90, "t")

    texts = [("Python docstrings", 200, 0.011, 0.004), ("data set descriptions", 60, 0.004, 0.006)]
    texts += [("the base model's own samples", 152, 0.0185, 0.0021), ("all text", 412, 0.0081, 0.0029)]
    probes = [("grammar pairs", 400, -0.0125, False), ("everyday facts", 240, 0.004, False)]
    probes += [("arithmetic", 240, 0.0, True), ("instruction following", 160, 0.0, True)]
    probes += [("all probes", 640, -0.006, False)]
    return tuple(
        Forgetting(name, "text", n, bits(1.02), bits(1.02 * (1 + by)),
                   Estimate(by, by - half, by + half, n, n, 0.90, "paired t"), margin=0.03)
        for name, n, by, half in texts
    ) + tuple(
        Forgetting(name, "probe", n, share(0.78, n, n, 0.90), share(0.78 + by, n, n, 0.90),
                   Estimate(by, by - 0.018, by + 0.018, n, n, 0.90, "paired t"),
                   Estimate(-0.021, -0.034, -0.008, n, n, 0.90, "paired t"), chance, 0.02)
        for name, n, by, chance in probes
    )  # fmt: skip


def version_story() -> VersionStory:
    version = manifest().version
    file = content_hash("train.csv")
    return VersionStory(
        SinceVersion(
            content_hash("earlier"), "frozen before this one", True, {"went": 31, "changed": 2},
            (
                RowChanges("went", "train", "duplicates: copies (drop)", 30,
                           (RowExample("mit_12.RULE", "MIT licence → mit", None),
                            RowExample("mit_19.RULE", None, None))),
                RowChanges("changed", "validation", "its answer is another one in the source", 2,
                           (RowExample("mpl_3.RULE", "MPL → gpl-2.0-plus", "MPL → mpl-2.0"),)),
            ), 1,
        ),
        (MaskedRow("mit_31.RULE", 41, 2, (Part("<|im_start|>user\nMIT is enough.\n", False),
                                          Part("mit<|im_end|>", True)), "cut from 90"),),
        None,
        (ExportedFile("2026-11-21T09:12:07+00:00", version, "train", "csv", 1500, "all", "train.csv", "/w",
                      file),),
        ("jsonl", "csv"),
    )  # fmt: skip


def duel(source: str, text: str, target: str, tuned: str, opponent: str) -> ExampleDuel:
    return ExampleDuel(source, text, target, tuned, 0.974, opponent)


def summary(decision: Decision = "TRAIN") -> RunSummary:
    """A complete run that ended with ``decision``."""
    return RunSummary(
        task="licence-notices",
        description="Name the licence in a software licence notice.",
        created="2026-11-21 09:40 UTC",
        manifest=manifest(),
        plan=plan(),
        opponents=(
            scorecard("constant", MAJORITY, "validation", 0.01),
            scorecard("prompt", ZERO_SHOT, "validation", 21.3),
            scorecard("prompt", PROMPT, "validation", 68.0),
            scorecard("classical", CLASSICAL, "validation", 12.4),
        ),
        finalists=(candidate("classical", CLASSICAL).id, candidate("prompt", PROMPT).id),
        training=training(),
        tuned_validation=scorecard("tuned", TUNED, "validation", 19.0),
        test_scorecards=(
            scorecard("classical", CLASSICAL, "test", 0.3),
            scorecard("prompt", PROMPT, "test", 66.0),
            scorecard("tuned", TUNED, "test", 41.0),
        ),
        verdict=verdict(decision),
        forgetting=forgetting(),
        confusions=(
            Confusion("gpl-2.0-plus", "gpl-3.0-plus", 7),
            Confusion("lgpl-2.1-plus", "lgpl-2.0-plus", 5),
            Confusion("bsd-new", "bsd-simplified", 3),
        ),
        wins=(
            duel("lgpl-2.1-plus_149.RULE", NOTICE, "lgpl-2.1-plus", "lgpl-2.1-plus", "lgpl-2.0-plus"),
            duel("mit_31.RULE", "Dual licensed, MIT is enough.", "mit", "mit", "apache-2.0"),
        ),
        losses=(duel("mpl-2.0_7.RULE", "See the Mozilla licence.", "mpl-2.0", "mpl-1.1", "mpl-2.0"),),
        stage_seconds={"data": 9.2, "plan": 1.4, "opponents": 108.0, "train": 251.0, "verdict": 142.0},
        versions={"python": "3.11.7", "tunesmith": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        machine={"cpu": "Intel Xeon, 2 cores", "memory": "16.4 GB", "system": "Linux 6.1"},
        files=(
            FileHash("task.yaml", content_hash("task"), 1_204),
            FileHash("adapter/adapter_model.safetensors", content_hash("adapter"), 19_561_224),
        ),
        base_licence="smollm2-135m-instruct: Apache-2.0, Hugging Face TB Research",
        notes=("Fused head: equal to the model's own forward and backward on two rows; used.",),
        version_story=version_story(),
    )


def hostile_summary() -> RunSummary:
    """Every free text tries to break out of the page; labels and names are very long."""
    attack = '<script>alert("x")</script> & <img src=x onerror=y> $\\frac{1}{2}$ [red]'
    base = summary("CANNOT TELL YET")
    told = version_story()
    assert told.since
    lost = RowChanges("went", "train", attack, 1, (RowExample(attack, attack, None),))
    story = VersionStory(
        replace(told.since, changes=(lost,), unmeasured=None),
        (MaskedRow(attack, 9, 2, (Part(attack, False), Part(attack, True)), attack),),
        None,
        (replace(told.exports[0], file=attack, chosen=attack),),
        told.export_formats,
    )
    renamed = tuple(
        replace(card, candidate=replace(card.candidate, name=attack + " and a very long name" * 4))
        for card in base.opponents
    )
    return replace(
        base, task="t" * 120, description=attack, opponents=renamed, notes=(attack,), wins=(),
        manifest=replace(base.manifest, attribution=attack, unmeasured_labels=("long_label_" * 20,)),
        losses=(duel(attack, attack * 30, attack, attack, attack),),
        confusions=(Confusion("a_label_without_any_spaces_" * 5, attack, 1),),
        files=(FileHash(attack, content_hash("a"), 12),),
        version_story=story,
        verdict=replace(base.verdict, sentence=attack,
                        checks=(Check(attack, attack, "unmeasured", attack, True),)),
    )  # fmt: skip


def thin_summary() -> RunSummary:
    """Nothing could be measured: no intervals, no metrics, no guards, no wins, no losses."""
    base = summary("CANNOT TELL YET")
    gains = tuple(
        replace(gain, low=None, high=None, standard_error=None, groups=31) for gain in base.verdict.gains
    )
    first = replace(base.opponents[0], metrics={}, metrics_without_conflicts={})
    return replace(
        base, opponents=(first, *base.opponents[1:]), forgetting=(), confusions=(), wins=(), losses=(),
        version_story=VersionStory(
            replace(base.version_story.since, same_test=None, rows={}, changes=(), other_rows=0,
                    unmeasured="train.parquet: edited after the freeze"),
            (), "smollm2 answers by a classification head", (), ("jsonl", "csv"),
        ) if base.version_story and base.version_story.since else None,
        notes=(), base_licence="", stage_seconds={}, plan=replace(base.plan, power=()),
        verdict=replace(base.verdict, gains=gains, checks=(), rows_needed=None),
        manifest=replace(base.manifest, set_aside=(), unmeasured_labels=(), leaks=3),
        training=replace(base.training, validation=()),
    )  # fmt: skip
