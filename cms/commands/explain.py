"""C{cms explain}: the command."""

from __future__ import annotations

import difflib
import json

import click

from cms import faults
from cms.faults.explain import as_dict, entry, listing


@click.command()
@click.argument("fault", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
def explain(fault: str | None, as_json: bool) -> None:
    """Explain FAULT: what one sees, what it means, and what cures it; without it, list all."""
    if fault is None:
        click.echo(_json([as_dict(f) for f in faults.CATALOGUE.values()]) if as_json else listing())
        return
    found = faults.CATALOGUE.get(fault)
    if found is None:
        near = difflib.get_close_matches(fault, faults.CATALOGUE, n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else "; cms explain lists all"
        raise click.UsageError(f"there is no fault {fault}{hint}")
    click.echo(_json(as_dict(found)) if as_json else entry(found))


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
