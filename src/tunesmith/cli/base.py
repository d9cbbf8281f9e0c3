"""``tunesmith base``: fetch a base beforehand, pin one of the Hub, accept the terms of one that has them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.options import JsonOption
from tunesmith.cli.output import emit, say
from tunesmith.errors import UserError


def base(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A catalog name, folder, .gguf file or Hub id.")
    ],
    accept_terms: Annotated[
        bool, typer.Option("--accept-terms", help="Accept the terms that are shown, without being asked.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch and prepare a base model.

    `tunesmith run` does the same when it needs it; this does it beforehand. Of a Hub id without a revision
    the newest is fetched, and the line that pins it is printed. Terms, where a base has some, are shown
    first.
    """
    from tunesmith.models import hub
    from tunesmith.models.catalog import resolve_base
    from tunesmith.wheels import cache_folder

    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    if name in hub.HUB_CATALOG and hub.accepted_terms(name, cache) is None:
        _ask_for_acceptance(name, hub.HUB_CATALOG[name].terms, accept_terms)
        hub.accept(name, cache)
    if hub.is_hub_id(name) and "@" not in name and not Path(name).is_dir():
        name = f"{name}@{hub.newest_revision(name)}"
    found = resolve_base(name, Path.cwd(), cache, say)
    line = f"\nin the task file: base: {name}" if hub.is_hub_id(name) and "@" in name else ""
    emit(
        found, as_json, f"{found.name}: {found.licence}; weights {found.sha256[:12]} in {found.folder}{line}"
    )


def register(app: typer.Typer) -> None:
    app.command("base")(base)


def _ask_for_acceptance(name: str, terms: str, accepted: bool) -> None:
    say(f"{terms}\n")
    if accepted:
        return
    if sys.stdin.isatty():
        say(f"Do you accept these terms for {name}? Type yes to accept:")
        if sys.stdin.readline().strip().lower() == "yes":
            return
    raise UserError(
        f"base: the terms of {name} were not accepted, so nothing was fetched",
        fix=f"read them, and accept them with: tunesmith base {name} --accept-terms",
    )
