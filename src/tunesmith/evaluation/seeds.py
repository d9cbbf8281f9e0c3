"""Is the gain more than seed noise?"""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.evaluation.wording import plain, signed
from tunesmith.records import Check, PairedGain
from tunesmith.run_records import SEED_NOISE, SeedStudy
from tunesmith.stats.seeds import FEWEST_SEEDS, beyond_seed_noise, seed_noise


def seed_check(study: SeedStudy | None, gains: Sequence[PairedGain]) -> tuple[Check, ...]:
    """Whether the smallest gain is larger than what another seed may take away; never blocking.

    The noise is measured on validation, the gain on the test. No check where one seed was trained.
    """
    if study is None or not gains:
        return ()
    scores = [run.score.value for run in study.runs]
    least = min(gains, key=lambda gain: gain.value)
    noise = seed_noise(scores)
    answer = beyond_seed_noise(least.value, scores)
    words = {
        "passed": "the gain is beyond it",
        "failed": "the gain is within seed noise",
        "unmeasured": f"fewer than {FEWEST_SEEDS} seeds do not tell",
    }
    listed = ", ".join(f"{100 * score:.1f}" for score in scores)
    return (
        Check(
            name=SEED_NOISE,
            question=f"Is the gain over {least.opponent} more than training with another seed may take away?",
            answer=answer,
            evidence=f"gain {signed(100 * least.value, 2)} points; another seed may be "
            f"{plain(100 * noise, 2)} points lower than the mean (one-sided 95 %); "
            f"{study.metric} on validation {listed} % with {len(scores)} seeds; {words[answer]}",
            blocking=False,
        ),
    )
