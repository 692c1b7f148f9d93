"""The paper's figures are whole and of the right form."""

import re

import pytest

from roireg.tables.paper import PAPER_TABLE1, PAPER_TABLE3, PAPER_TEXT

ROWS = {
    **{f"Table 1, {name}": row for name, row in PAPER_TABLE1.items()},
    **{f"text, {name}": row for name, row in PAPER_TEXT.items()},
    **{f"Table 3, {name}, {k}": row for name, rows in PAPER_TABLE3.items() for k, row in enumerate(rows)},
}


@pytest.mark.parametrize("name", ROWS)
def test_every_row_has_all_four_errors(name):
    row = ROWS[name]
    assert re.fullmatch(r"\d+\.\d\d ± \d+\.\d\d", row.mtre)
    assert re.fullmatch(r"\d+%", row.srr)
    for cell in (row.re, row.te):
        assert re.fullmatch(r"\d+\.\d+ ± \d+\.\d+", cell)


def test_the_roi_term_raises_no_mean_of_table_3():
    def mean(cell: str) -> float:
        return float(cell.split(" ± ")[0])

    for without, with_rois in PAPER_TABLE3.values():
        assert mean(with_rois.mtre) < mean(without.mtre)
        assert mean(with_rois.re) < mean(without.re)
        assert mean(with_rois.te) <= mean(without.te)


def test_the_abstract_gives_the_row_of_the_method():
    row = PAPER_TABLE1["wsreg"]
    assert (row.mtre, row.re, row.te) == ("0.67 ± 1.34", "0.2 ± 0.5", "1.6 ± 2.9")
