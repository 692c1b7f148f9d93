"""A table in three forms: CSV with all numbers, Markdown and LaTeX with formatted cells."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from roireg.files import atomic_path, write_csv

# Characters that LaTeX's text fonts lack or print as other characters.
LATEX_SYMBOLS = {"±": r"$\pm$", "×": r"$\times$", "–": "--", "°": r"$^\circ$", "<": "$<$", ">": "$>$"}


@dataclass(frozen=True, eq=False)
class Table:
    """A table, without its notes.

    Attributes:
        numbers: unrounded values, one row a line of the table.
        shown: formatted cells, for `text` (Markdown) and `latex`.

    Raises:
        ValueError: two columns have the same title.
    """

    numbers: pd.DataFrame
    shown: pd.DataFrame

    def __post_init__(self) -> None:
        titles = self.shown.columns.str.strip()
        if not titles.is_unique:
            raise ValueError(f"two columns have the same title: {titles[titles.duplicated()].tolist()}")

    @property
    def text(self) -> str:
        """The formatted table as Markdown."""
        cells = self.shown.map(_markdown).rename(columns=_markdown)
        return cells.to_markdown(index=False, tablefmt="github", disable_numparse=True)

    @property
    def latex(self) -> str:
        """The formatted table as LaTeX; it needs the package booktabs."""
        styled = self.shown.style.hide(axis="index").format(_latex, escape="latex")
        return styled.format_index(_latex, escape="latex", axis="columns").to_latex(hrules=True).rstrip("\n")


def _markdown(cell: object) -> str:
    """The cell with "|" escaped, which would otherwise start a new column."""
    return str(cell).replace("|", r"\|")


def _latex(escaped: object) -> str:
    """The cell with `LATEX_SYMBOLS` replaced; pandas has already escaped LaTeX's special characters."""
    return str(escaped).translate(str.maketrans(LATEX_SYMBOLS))


def write_table(table: Table, csv: str | Path, markdown: str | Path, latex: str | Path, notes: Iterable[str]) -> None:
    """Write a table in its three forms; the notes go below the Markdown table and into comments of the LaTeX file."""
    notes = [*notes]
    write_csv(csv, table.numbers)
    with atomic_path(markdown) as path:
        path.write_text(table.text + "\n\n" + "\n".join(f"- {note}" for note in notes) + "\n")
    with atomic_path(latex) as path:
        path.write_text("\n".join(f"% {note}" for note in notes) + "\n" + table.latex + "\n")
