"""Conversations as chats: ``python prepare.py FOLDER`` writes data/rows.jsonl beside this file.

FOLDER holds train.jsonl of MTS-Dialog with the column dialogue. The doctor is the user, the patient the
assistant; a chat ends with the patient's last turn. Conversations with other people in them are left out.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROLES = {"doctor": "user", "patient": "assistant"}
SPEAKER = re.compile(r"^\s*([A-Za-z_ 0-9]+?)\s*:\s*", re.MULTILINE)


def turns(dialogue: str) -> list[dict[str, str]]:
    """The turns from the doctor's first to the patient's last; none where somebody else speaks."""
    parts = SPEAKER.split(dialogue.replace("\r\n", "\n"))[1:]
    said: list[dict[str, str]] = []
    for speaker, text in zip(parts[::2], parts[1::2], strict=True):
        role, content = ROLES.get(speaker.lower()), " ".join(text.split())
        if role is None:
            return []
        if said and said[-1]["role"] == role:
            said[-1]["content"] += f" {content}"
        elif content and (said or role == "user"):
            said.append({"role": role, "content": content})
    return said if said and said[-1]["role"] == "assistant" else said[:-1]


def main() -> None:
    target = Path(__file__).parent / "data"
    target.mkdir(exist_ok=True)
    lines = []
    for line in (Path(sys.argv[1]) / "train.jsonl").read_text(encoding="utf-8").splitlines():
        messages = turns(json.loads(line)["dialogue"])
        if len(messages) >= 4:
            lines.append(json.dumps({"messages": messages}, ensure_ascii=False))
    (target / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
