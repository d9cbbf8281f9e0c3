"""The packaged source reads licence notices straight from a wheel."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from tunesmith.data.licences import read_notices
from tunesmith.data.sources import LICENCE_NOTICES, PACKAGES, SourceSpec, read_source
from tunesmith.errors import UserError

ABOUT = """about_resource: .
license_expression: cc-by-4.0
notes: |
 the preferred attribution notice for data is:
    Copyright (c) Some Body. All rights reserved.
    SPDX-License-Identifier: CC-BY-4.0
"""


def rule(expression: str, text: str, notice: bool = True) -> str:
    kind = "is_license_notice" if notice else "is_license_reference"
    return f"---\nlicense_expression: {expression}\n{kind}: yes\nrelevance: 99\n---\n\n{text}\n"


def build_wheel(folder: Path, rules: dict[str, str], about: str | None = ABOUT) -> Path:
    wheel = folder / "licensedcode_data-32.1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel, "w") as package:
        for name, text in rules.items():
            package.writestr(f"licensedcode/data/rules/{name}.RULE", text)
        package.writestr("licensedcode/data/inactive/rules/old.RULE", rule("mit", "an inactive notice"))
        if about is not None:
            package.writestr("licensedcode/data/scancode-data.ABOUT", about)
    return wheel


def test_only_active_notices_are_read_in_order_of_their_names(tmp_path: Path) -> None:
    rules = {
        "mit_2": rule("mit", "Released under the {{MIT license}}.\nEnjoy."),
        "gpl_1": rule("gpl-2.0", "This is GPL v2.").replace("\n", "\r\n"),
        "ref_1": rule("mit", "MIT", notice=False),
        "sly_1": rule("mit", "A text that says\nis_license_notice: yes", notice=False),
    }
    read = read_notices(build_wheel(tmp_path, rules))
    assert [(notice.source, notice.expression, notice.text) for notice in read.notices] == [
        ("licensedcode/data/rules/gpl_1.RULE", "gpl-2.0", "This is GPL v2."),
        ("licensedcode/data/rules/mit_2.RULE", "mit", "Released under the MIT license.\nEnjoy."),
    ]
    assert read.rule_files == 4
    assert (
        read.attribution
        == "Copyright (c) Some Body. All rights reserved.\nSPDX-License-Identifier: CC-BY-4.0"
    )


@pytest.mark.parametrize(
    ("rules", "about", "words"),
    [
        ({"a": "no front matter, is_license_notice: yes"}, ABOUT, "no front matter"),
        ({"a": rule("mit", "x", notice=False)}, ABOUT, "no licence notices"),
        ({"a": rule("mit", "x")}, None, "scancode-data.ABOUT is missing"),
    ],
)
def test_another_wheel_is_refused(
    tmp_path: Path, rules: dict[str, str], about: str | None, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        read_notices(build_wheel(tmp_path, rules, about))


def test_a_broken_wheel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"not a zip")
    with pytest.raises(UserError, match="not a readable wheel"):
        read_notices(tmp_path / "x.whl")


def test_filters_leave_an_account_that_adds_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = {f"mit_{n}": rule("mit", f"notice number {n} is under the mit licence") for n in range(70)}
    rules |= {f"gpl_{n}": rule("gpl-2.0", f"notice number {n} is under the gpl licence") for n in range(60)}
    rules |= {f"zlib_{n}": rule("zlib", f"notice number {n} is under the zlib licence") for n in range(9)}
    rules |= {f"short_{n}": rule("mit", "too short") for n in range(5)}
    rules |= {f"ref_{n}": rule("mit", "MIT", notice=False) for n in range(3)}
    wheel = build_wheel(tmp_path / "wheels", rules)
    monkeypatch.setitem(PACKAGES, LICENCE_NOTICES, hashlib.sha256(wheel.read_bytes()).hexdigest())
    spec = SourceSpec(
        LICENCE_NOTICES, (), None, None, None, None, min_words=6, max_words=120, most_frequent_labels=2
    )
    source = read_source(spec, tmp_path)
    assert {row.target for row in source.rows} == {"mit", "gpl-2.0"}
    assert len(source.rows) == 130
    assert [(aside.reason, aside.rows) for aside in source.set_aside] == [
        ("rules that are not licence notices", 3),
        ("inputs that do not have 6 to 120 words", 5),
        ("labels that are not among the 2 most frequent", 9),
    ]
    assert source.read_rows == len(rules) == len(source.rows) + sum(aside.rows for aside in source.set_aside)
    assert source.licence == "CC-BY-4.0"
    assert source.files[0].rows == len(rules)
    assert source.rows[0].source == "licensedcode/data/rules/gpl_0.RULE"


def test_an_unknown_package_names_the_known_ones(tmp_path: Path) -> None:
    spec = SourceSpec("licensedcode-data==31.0.0", (), None, None, None, None, None, None, None)
    with pytest.raises(UserError, match="not a packaged source") as caught:
        read_source(spec, tmp_path)
    assert "Set data.package: licensedcode-data==32.1.0" in caught.value.fix
