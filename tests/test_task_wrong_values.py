"""Whatever stands in a setting's place, the answer is an error that names it, never a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tunesmith.errors import UserError
from tunesmith.task import load_task, task_json_schema

WRONG = ["no such!", "", 3.5, -1, True, None, [], [1], {}, {"a": 1}, [{"a": [None]}]]


def filled(at: dict[str, Any], schema: dict[str, Any], value: Any) -> Any:
    """``value`` in every setting below ``at``; a list of sections gets one such section."""
    for member in (at, *at.get("anyOf", ())):
        if "$ref" in member:
            section = schema["$defs"][member["$ref"].rpartition("/")[2]]
            if "properties" in section:
                return {
                    name: filled(setting, schema, value) for name, setting in section["properties"].items()
                }
        if "$ref" in member.get("items", {}):
            return [filled(member["items"], schema, value)]
    return value


@pytest.mark.parametrize("value", WRONG, ids=str)
def test_a_wrong_value_in_every_setting_is_told_setting_by_setting(tmp_path: Path, value: Any) -> None:
    schema = task_json_schema()
    task = {name: filled(setting, schema, value) for name, setting in schema["properties"].items()}
    path = tmp_path / "task.yaml"
    path.write_text(yaml.safe_dump(task), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_task(path)
    assert caught.value.exit_code == 2
    assert "problems" in caught.value.what


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "GPU"])
def test_a_device_there_is_no_word_for_is_told_with_those_there_are(tmp_path: Path, device: str) -> None:
    text = (Path(__file__).parent.parent / "examples/licence-notices/task.yaml").read_text(encoding="utf-8")
    path = tmp_path / "task.yaml"
    path.write_text(text.replace("\ntrain:\n", f"\ntrain:\n  device: {device}\n"), encoding="utf-8")
    with pytest.raises(UserError, match="allowed: cpu, cuda, or cuda: and a number"):
        load_task(path)
