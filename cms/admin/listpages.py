"""What every page with a long list has: a search, a table, and the way to the other parts."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from twisted.web.template import Tag, tags

from cms.admin.interfaces import Page, Selection
from cms.admin.pages import Visit, input_field

SHOWN = 25  # of a list


def selected(visit: Visit) -> Selection:
    """The part that is asked for."""
    return Selection(offset_of(visit), SHOWN, visit.query.get("filter", "")[:300])


def offset_of(visit: Visit) -> int:
    """From where on."""
    offset = visit.query.get("offset", "0")
    return int(offset) if offset.isascii() and offset.isdigit() and len(offset) < 10 else 0


def search_form(here: str, selection: Selection, label: str, hint: str) -> Tag:
    """The search of the list at C{here}."""
    return tags.form(
        input_field("filter", label, hint, value=selection.filter),
        tags.button("Find", type="submit"),
        method="get",
        action=here,
        role="search",
        class_="narrow",
    )


def links_to_parts(here: str, page: Page, selection: Selection) -> list[Tag]:
    """To the part before this and to the next, if they are there."""
    links, start = [], selection.offset
    for text, at in (("Previous", start - SHOWN), ("Next", start + SHOWN)):
        if -SHOWN < at < page.total and at != start:
            query = urlencode({"filter": selection.filter, "offset": max(0, at)})
            links.append(tags.a(text, href=f"{here}?{query}", class_="button"))
    return links


def table(labels: Sequence[str], rows: Sequence[Tag], page: Page, start: int) -> Tag:
    """
    Rows with their place in the whole.

    The roles stay when the narrow layout takes them from the elements.
    """
    head = [tags.th(label, scope="col", role="columnheader") for label in labels]
    return tags.table(
        tags.caption(f"{start + 1} to {start + len(rows)} of {page.total}"),
        tags.thead(tags.tr(*head, role="row"), role="rowgroup"),
        tags.tbody(*rows, role="rowgroup"),
        role="table",
    )
