"""The page's section on sizes and on main effects with interactions; computes nothing."""

from collections.abc import Iterator

from mnist_ablate.reports import effect_tables
from mnist_ablate.reports.markup import Markup, element, join, table
from mnist_ablate.reports.sentences import Document

Section = tuple[str, str, Markup]


def sections(document: Document) -> Iterator[Section]:
    """One section with what there is of both tables; none if there is neither."""
    parts: list[Markup] = []
    if sizes := effect_tables.sizes(document):
        parts.append(table(effect_tables.SIZES_HEADS, sizes, numbers_from=1, caption=effect_tables.SIZES_TITLE))
        parts.append(element("p", effect_tables.sizes_note(document), class_="fine"))
    if effects := effect_tables.effects(document):
        caption = effect_tables.effects_title(document)
        parts.append(table(effect_tables.EFFECTS_HEADS, effects, numbers_from=1, caption=caption))
        parts.append(element("p", effect_tables.effects_note(document), class_="fine"))
    if parts:
        yield "effects", "Effects", join(parts)
