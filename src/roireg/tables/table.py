"""A table for machines and for people: CSV, Markdown and LaTeX."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from roireg.files import atomic_path, write_csv


@dataclass(frozen=True, eq=False)
class Table:
    """`numbers` for machines, `text` (Markdown) and `latex` for people, notes apart."""

    numbers: pd.DataFrame
    shown: pd.DataFrame

    @property
    def text(self) -> str:
        """The table for people, as Markdown."""
        header = list(self.shown.columns)
        lines = [header, ["---"] * len(header), *self.shown.to_numpy().tolist()]
        return "\n".join("| " + " | ".join(str(cell).replace("|", r"\|") for cell in line) + " |" for line in lines)

    @property
    def latex(self) -> str:
        """The table for people, as LaTeX."""
        symbols = {character: "\\" + character for character in "&%$#_{}"} | {
            "±": r"$\pm$",
            "–": "--",
            "°": r"$^\circ$",
            "<": "$<$",
            ">": "$>$",
            "\\": r"\textbackslash{}",
            "~": r"\textasciitilde{}",
            "^": r"\textasciicircum{}",
        }

        def escaped(text: object) -> str:
            return "".join(symbols.get(character, character) for character in str(text))

        rows = [list(self.shown.columns), *self.shown.to_numpy().tolist()]
        body = [" & ".join(escaped(cell) for cell in row) + r" \\" for row in rows]
        columns = "l" * len(self.shown.columns)
        return "\n".join(
            [rf"\begin{{tabular}}{{{columns}}}", r"\hline", body[0], r"\hline", *body[1:], r"\hline", r"\end{tabular}"]
        )


def write_table(table: Table, csv: str | Path, markdown: str | Path, latex: str | Path, notes: Iterable[str]) -> None:
    """Write a table in its three forms; notes stand below the Markdown and as comments in the LaTeX."""
    notes = [*notes]
    write_csv(csv, table.numbers)
    with atomic_path(markdown) as path:
        path.write_text(table.text + "\n\n" + "\n".join(f"- {note}" for note in notes) + "\n")
    with atomic_path(latex) as path:
        path.write_text("\n".join(f"% {note}" for note in notes) + "\n" + table.latex + "\n")
