"""task.yaml: its ``settings`` and ``rules``, how it is read (``lines``, ``reading``), and a ``template``."""

from tunesmith.task.reading import load_task
from tunesmith.task.settings import Task, task_json_schema

__all__ = ["Task", "load_task", "task_json_schema"]
