"""What is measured beside the tasks: each measurement is a table of its own, with what is wanted of it."""

from __future__ import annotations

from dataclasses import dataclass

from bench.targets import Target


@dataclass(frozen=True)
class Chapter:
    """One of them, done.

    Attributes:
        heading: of the table.
        notes: what one has to know to read it; a paragraph, or empty.
        table: in Markdown.
        targets: what is wanted, and what was found.
    """

    heading: str
    notes: str
    table: str
    targets: tuple[Target, ...] = ()
