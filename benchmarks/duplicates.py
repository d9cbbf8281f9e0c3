"""Seconds and memory of grouping near-duplicates, beside datasketch used the textbook way.

    python benchmarks/duplicates.py [--million] [--banking77 FOLDER] [--out FILE]

Rows are short made-up questions (about 18 words) with planted near-duplicates. Each measurement is a process
of its own; seconds are wall seconds, beside them the processor's. Recall and precision are those of pairs of
rows in one group, against comparing every pair of 5,000 rows.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tunesmith.data.duplicates import group_rows, shingles, words
from tunesmith.files import write_json
from tunesmith.records import Message, Row
from tunesmith.stats.intervals import wilson

SIZES = (10_000, 50_000, 200_000)
MILLION = 1_000_000
BESIDE_DATASKETCH = (10_000, 50_000)
COMPARED_ROWS = 5_000
SIMILARITY = 0.8
SHINGLE_WORDS = 3


def _words(text: str) -> list[str]:
    return text.split()


VERBS = _words(
    "block cancel change check close confirm dispute explain find freeze keep lose move open order"
)
THINGS = _words(
    "account address app balance bank card cash charge code credit currency deposit email fee identity "
    "income invoice limit loan machine message mortgage name number passcode payment pension phone pin plan "
    "policy profile rate receipt rent salary shop statement tax ticket transfer trip visa wallet wire"
)
OPENINGS = (
    "how do i {verb} my {thing}",
    "can you {verb} the {thing} for me",
    "i want to {verb} a {thing}",
    "please help me {verb} my {thing}",
    "is it possible to {verb} the {thing}",
    "i tried to {verb} my {thing} and it failed",
)
ENDINGS = (
    "after the {which} with the {other}",
    "before i travel to {place} with {other}",
    "since the {other} from {place} did not work",
    "as the {which} {other} in {place} told me",
    "on {place} day with order {number}",
    "it says code {number} for the {other}",
)
KINDS = _words("blue broken cheap double early expired first foreign gold last late missing new old")
PLACES = _words("Austria Berlin Chile Denmark Egypt Finland Ghana Hungary India Japan Kenya London Madrid")
ADDED = ("please", "thanks", "now", "today")


def made_up_rows(number: int, seed: int = 0) -> list[str]:
    """Questions from templates; one in ten is followed by a near-duplicate with a word more."""
    chance = random.Random(seed)
    texts: list[str] = []
    while len(texts) < number:
        template = " ".join([chance.choice(OPENINGS), *chance.sample(ENDINGS, k=2)])
        text = template.format(
            verb=chance.choice(VERBS),
            thing=chance.choice(THINGS),
            other=chance.choice(THINGS),
            which=chance.choice(KINDS),
            place=chance.choice(PLACES),
            number=chance.randrange(100_000),
        )
        texts.append(text)
        if chance.random() < 0.1:
            texts.append(f"{text} {chance.choice(ADDED)}")
    chance.shuffle(texts)
    return texts[:number]


def tunesmith_groups(texts: list[str]) -> list[str]:
    """A group for each text, by what this benchmark measures."""
    rows = [Row(str(n), str(n), (Message("user", text),), "") for n, text in enumerate(texts)]
    return group_rows(rows, SIMILARITY, SHINGLE_WORDS)


def datasketch_groups(texts: list[str]) -> list[str]:
    """The same with datasketch, as its documentation shows it: one MinHash a text, an LSH index, queries."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=SIMILARITY, num_perm=128)
    hashes = []
    for number, text in enumerate(texts):
        minhash = MinHash(num_perm=128)
        for shingle in shingles(words(text), SHINGLE_WORDS):
            minhash.update(" ".join(shingle).encode())
        hashes.append(minhash)
        index.insert(str(number), minhash)
    parents = list(range(len(texts)))
    for number, minhash in enumerate(hashes):
        for other in index.query(minhash):
            _join(parents, number, int(other))
    return [str(_root(parents, number)) for number in range(len(texts))]


def brute_force_groups(texts: list[str]) -> list[str]:
    """Every pair compared by its true Jaccard similarity."""
    sets = [shingles(words(text), SHINGLE_WORDS) for text in texts]
    parents = list(range(len(texts)))
    for first, second in itertools.combinations(range(len(texts)), 2):
        one, other = sets[first], sets[second]
        if min(len(one), len(other)) < SIMILARITY * max(len(one), len(other)) - 1e-9:
            continue
        shared = len(one & other)
        if shared >= SIMILARITY * (len(one) + len(other) - shared) - 1e-9:
            _join(parents, first, second)
    return [str(_root(parents, number)) for number in range(len(texts))]


METHODS = {"tunesmith": tunesmith_groups, "datasketch": datasketch_groups, "brute force": brute_force_groups}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--million", action="store_true", help="measure 1,000,000 rows, too")
    parser.add_argument("--banking77", type=Path, help="a folder with train.jsonl (field text), measured too")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "ROWS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        method, rows = arguments.one
        sys.stdout.write(json.dumps(_measure(method, int(rows), arguments.banking77)))
        return
    runs = [("tunesmith", size) for size in (*SIZES, *((MILLION,) if arguments.million else ()))]
    runs += [("datasketch", size) for size in BESIDE_DATASKETCH]
    measured = [_in_own_process(method, size, None) for method, size in runs]
    if arguments.banking77:
        measured += [
            _in_own_process(method, 0, arguments.banking77) for method in ("tunesmith", "datasketch")
        ]
    result = {
        **machine_and_versions(("numpy", "scipy", "datasketch")),
        "similarity": SIMILARITY,
        "runs": measured,
        "times_faster_than_datasketch": _times_faster(measured),
        "against_brute_force": _accuracy(),
    }
    sys.stdout.write(json.dumps(result["times_faster_than_datasketch"], indent=1) + "\n")
    sys.stdout.write(json.dumps(result["against_brute_force"], indent=1) + "\n")
    if arguments.out:
        write_json(arguments.out, result)


def machine_and_versions(packages: Sequence[str]) -> dict[str, Any]:
    """What the seconds of this run depend on: processor, cores, memory, threads, and versions of packages."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text(encoding="utf-8").splitlines() if described.is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "machine": {
            "processor": model or platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "memory_gb": round(pages / 1024**3, 1),
            "platform": platform.platform(),
            "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }


def _times_faster(measured: Sequence[dict[str, Any]]) -> dict[str, float]:
    """By data and number of rows: datasketch's processor seconds over Tunesmith's."""
    by_method = {(run["method"], run["data"], run["rows"]): run["processor_seconds"] for run in measured}
    return {
        f"{data}, {rows:,} rows": round(seconds / by_method["tunesmith", data, rows], 1)
        for (method, data, rows), seconds in by_method.items()
        if method == "datasketch"
    }


def _in_own_process(method: str, size: int, folder: Path | None) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", method, str(size)]
    command += ["--banking77", str(folder)] if folder else []
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    sys.stdout.write(f"{found}\n")
    sys.stdout.flush()
    return found


def _measure(method: str, size: int, folder: Path | None) -> dict[str, Any]:
    if folder is None:
        texts = made_up_rows(size)
    else:
        with (folder / "train.jsonl").open(encoding="utf-8") as lines:
            texts = [json.loads(line)["text"] for line in lines]
    METHODS[method](texts[:100])  # imports are not what is measured
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, worked = time.perf_counter(), time.process_time()
    groups = METHODS[method](texts)
    return {
        "method": method,
        "data": "made-up questions" if folder is None else folder.name,
        "rows": len(texts),
        "seconds": round(time.perf_counter() - started, 2),
        "processor_seconds": round(time.process_time() - worked, 2),
        "groups": len(set(groups)),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "memory_before_mb": round(before / 1024),
    }


def _accuracy() -> dict[str, Any]:
    texts = made_up_rows(COMPARED_ROWS, seed=1)
    truth = _pairs(brute_force_groups(texts))
    found: dict[str, Any] = {"rows": len(texts), "true_pairs": len(truth)}
    for method in ("tunesmith", "datasketch"):
        pairs = _pairs(METHODS[method](texts))
        shared = len(pairs & truth)
        found[method] = {
            "pairs": len(pairs),
            "recall": shared / len(truth),
            "recall_interval": wilson(shared / len(truth), len(truth), 1.96),
            "precision": shared / len(pairs),
            "precision_interval": wilson(shared / len(pairs), len(pairs), 1.96),
        }
    return found


def _pairs(groups: list[str]) -> set[tuple[int, int]]:
    members: defaultdict[str, list[int]] = defaultdict(list)
    for number, group in enumerate(groups):
        members[group].append(number)
    return {pair for same in members.values() for pair in itertools.combinations(same, 2)}


def _root(parents: list[int], number: int) -> int:
    while parents[number] != number:
        parents[number] = parents[parents[number]]
        number = parents[number]
    return number


def _join(parents: list[int], first: int, second: int) -> None:
    low, high = sorted((_root(parents, first), _root(parents, second)))
    parents[high] = low


if __name__ == "__main__":
    main()
