"""Curated against noisy data: the same base and the same training tokens on five versions of one pool.

    TUNESMITH_DATA=… python studies/curated_vs_noisy/compare.py           # everything; 90 minutes of one core
    python studies/curated_vs_noisy/compare.py --dataset licence-notices --seeds 0
    python studies/curated_vs_noisy/compare.py --pages                    # table and picture from the results

Every arm of every seed is a file of its own under results/; those that are there are not run again, so a run
can be stopped at any time. TUNESMITH_DATA is the folder that holds banking77.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from arms import ARMS, Curation, Trained, curate, train_arm
from comparison import write_page
from planting import SHARES
from sets import DATA_SETS, DataSet, Sizes, draw
from tunesmith.engine.precision import Precision, probe_precision
from tunesmith.errors import UserError
from tunesmith.files import content_hash, read_record, write_json
from tunesmith.stages.session import machine
from tunesmith.task.train_settings import TrainSettings

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
DOCS = FOLDER.parent.parent / "docs"
WORK = FOLDER.parent.parent / "runs" / "curated-vs-noisy"
SEEDS = (0, 1, 2, 3, 4)
SETTINGS = TrainSettings(rank=16, alpha=32.0, learning_rate=1e-3, batch_size=8)
PACKAGES = ("torch", "transformers", "scikit-learn", "cleanlab")


@dataclass(frozen=True)
class Study:
    """Where results and working files lie, and what every arm is given alike."""

    results: Path
    work: Path
    sizes: Sizes
    settings: TrainSettings


def run_seed(
    data: DataSet,
    seed: int,
    arms: Sequence[str],
    study: Study,
    precision: Precision,
    say: Callable[[str], None] = print,
) -> list[str]:
    """Run what is missing of one seed; the names of the arms that were trained now.

    Results of other sizes or settings are replaced.
    """
    settings = study.settings.model_dump(exclude={"learning_curve"})  # no arm draws one
    setup = content_hash([study.sizes, settings, SHARES, data])[:12]
    names = {arm: study.results / data.name / f"seed-{seed}-{arm}.json" for arm in (*arms, "curation")}
    missing = [arm for arm in arms if not _is_done(names[arm], Trained, setup)]
    if not missing and _is_done(names["curation"], Curation, setup):
        return []
    drawn = draw(data, study.sizes, seed)
    rows, curation = curate(data, drawn, study.work / f"{data.name}-{seed}")
    write_json(names["curation"], replace(curation, setup=setup))
    say(
        f"{data.name} seed {seed}: {curation.pool_rows} rows, {curation.curated_rows} of them kept; "
        f"{curation.wrong_labels_before} wrong labels, then {curation.wrong_labels_after}; "
        f"{curation.processor_seconds:.0f} s"
    )
    for arm in missing:
        trained = train_arm(data, drawn, rows, arm, study.sizes, study.settings, precision)
        versions = {name: version(name) for name in PACKAGES}
        write_json(names[arm], replace(trained, setup=setup, machine=machine(), versions=versions))
        say(
            f"{data.name} seed {seed} {arm}: {trained.accuracy:.1%} after {trained.trained_tokens:,} tokens "
            f"of {trained.rows} rows, {trained.steps} steps; {trained.processor_seconds:.0f} s"
        )
    return missing


def _is_done(path: Path, record: type[Trained] | type[Curation], setup: str) -> bool:
    try:
        return path.is_file() and read_record(path, record).setup == setup
    except ValueError:  # half a file, or of another version
        return False


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dataset", choices=DATA_SETS, action="append", help="this one only; may be repeated"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--arms", choices=ARMS, nargs="+", default=ARMS)
    parser.add_argument("--pages", action="store_true", help="only write table and picture from the results")
    asked = parser.parse_args()
    if not asked.pages:
        study = Study(RESULTS, WORK, Sizes(), SETTINGS)
        sets = [DATA_SETS[name](WORK) for name in asked.dataset or DATA_SETS]
        precision = probe_precision().precision
        for seed in asked.seeds:
            for data in sets:
                run_seed(data, seed, asked.arms, study, precision, _say)
    write_page(RESULTS, DOCS)


def _say(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
