"""The packaged source: licence notices from the ScanCode rule files inside the licensedcode-data wheel.

Each ``*.RULE`` file is a YAML front matter block and a text. Texts are read straight from the zip; the
``{{`` and ``}}`` with which ScanCode marks required phrases are removed, for no real notice holds them.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from tunesmith.errors import UserError

RULES_FOLDER = "licensedcode/data/rules/"
ABOUT_FILE = "licensedcode/data/scancode-data.ABOUT"
LICENCE = "CC-BY-4.0"

# Half a second instead of eight for 14,000 blocks where libyaml is built in; both are safe loaders.
_Loader: type[yaml.CSafeLoader] | type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Notice:
    """One licence notice: its place in the package, its text, and the licence expression experts gave it."""

    source: str
    text: str
    expression: str


@dataclass(frozen=True)
class NoticePackage:
    """The notices in order of their file names, how many rule files there were, and who to thank."""

    notices: tuple[Notice, ...]
    rule_files: int
    attribution: str


def read_notices(wheel: Path) -> NoticePackage:
    """All rules that ScanCode marks ``is_license_notice: yes``.

    Raises:
        UserError: the wheel is not a zip file, lacks the rules, or a rule has no front matter.
    """
    notices: list[Notice] = []
    try:
        with zipfile.ZipFile(wheel) as package:
            names = sorted(
                name
                for name in package.namelist()
                if name.startswith(RULES_FOLDER) and name.endswith(".RULE")
            )
            attribution = _attribution(package, wheel)
            for name in names:
                raw = package.read(name)
                if b"is_license_notice: yes" not in raw:
                    continue
                notice = _parse(name, raw.decode("utf-8"), wheel)
                if notice is not None:
                    notices.append(notice)
    except zipfile.BadZipFile as error:
        raise UserError(
            f"{wheel}: not a readable wheel: {error}", "Delete the file and run again."
        ) from error
    if not notices:
        raise UserError(
            f"{wheel}: no licence notices under {RULES_FOLDER}", "Use the wheel of licensedcode-data==32.1.0."
        )
    return NoticePackage(tuple(notices), len(names), attribution)


def _parse(name: str, rule: str, wheel: Path) -> Notice | None:
    match = re.match(r"---\r?\n(.*?)\n---[ \t]*\r?\n(.*)", rule, re.DOTALL)
    if match is None:
        raise UserError(
            f"{wheel}: {name}: no front matter block", "Use the wheel of licensedcode-data==32.1.0."
        )
    front = yaml.load(match[1].replace("\r\n", "\n"), Loader=_Loader)  # a safe loader, see above
    if front.get("is_license_notice") is not True:
        return None
    text = match[2].replace("\r\n", "\n").replace("{{", "").replace("}}", "").strip()
    return Notice(name, text, str(front["license_expression"]))


def _attribution(package: zipfile.ZipFile, wheel: Path) -> str:
    try:
        about = yaml.load(package.read(ABOUT_FILE).decode("utf-8"), Loader=_Loader)
    except KeyError:
        raise UserError(
            f"{wheel}: {ABOUT_FILE} is missing", "Use the wheel of licensedcode-data==32.1.0."
        ) from None
    # The notes read "the preferred attribution notice for data is:" and then the notice itself.
    lines = [line.strip() for line in str(about["notes"]).splitlines()[1:]]
    return "\n".join(line for line in lines if line)


def named_licences(expression: str) -> tuple[str, ...]:
    """The licences and exceptions that an expression names, such as ``(gpl-2.0 WITH autoconf) OR mit``."""
    words = re.findall(r"[^\s()]+", expression)
    return tuple(sorted({word for word in words if word not in ("AND", "OR", "WITH")}))
