"""Tables: the right numbers beside the right figures of the paper, in three forms."""

import re

import numpy as np
import pandas as pd
import pytest

from roireg.data.results import read_registrations
from roireg.files import write_csv
from roireg.metrics.statistics import paired_test
from roireg.register.log_summary import log_summary
from roireg.tables.table import Table, write_table
from roireg.tables.table1 import TABLE1_NOTES, table1

LABELS = {"diffdrr": "DiffDRR", "perturbed": "Perturbed truth", "perturbed+weights": "Perturbed, weighted"}
MPD = {
    "diffdrr": [0.5, 20.0, 40.0, 8.0, 60.0, 30.0],
    "perturbed": [0.9, 1.5, 0.4, 3.0, 0.8, 12.0],
    "perturbed+weights": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
}


def registrations(method: str, specimen: str | None = None) -> pd.DataFrame:
    rows = [
        {
            "specimen": "17-1882" if index < 3 else "0042",
            "projection": f"{index % 3:03d}",
            "method": method,
            "init": "pa" if method == "diffdrr" else "perturbed",
            "init_mpd_mm": 25.0 + index,
            "mpd_mm": mpd,
            "tre_mm": 2 * mpd,
            "mpd_legacy": 0.194 * mpd,
            "rotation_deg": 0.25 * mpd,
            "translation_mm": 3 * mpd,
            "seconds": 4.0 + index,
            "verdict": "trusted" if index < 4 else "check" if index == 4 else "failed",
        }
        for index, mpd in enumerate(MPD[method])
    ]
    frame = pd.DataFrame(rows)
    return frame if specimen is None else frame[frame["specimen"] == specimen]


ROWS = pd.concat([registrations(method) for method in MPD], ignore_index=True)


@pytest.fixture(scope="module")
def table() -> Table:
    return table1(ROWS, LABELS, seed=0)


def cells(table: Table, method: str) -> dict[str, str]:
    return table.shown[table.shown["Method"] == LABELS[method]].iloc[0].to_dict()


def test_the_rows_are_the_methods_in_their_order(table):
    assert table.shown["Method"].tolist() == [*LABELS.values()]
    assert table.numbers["method"].tolist() == [*LABELS]
    turned = table1(ROWS, dict(reversed(LABELS.items())), seed=0)
    assert turned.numbers["method"].tolist() == [*reversed(LABELS)]


def test_the_numbers_are_those_of_the_rows(table):
    numbers = table.numbers.set_index("method")
    for method, mpd in MPD.items():
        assert numbers.loc[method, "mpd_mm_mean"] == pytest.approx(np.mean(mpd))
        assert numbers.loc[method, "mpd_mm_sd"] == pytest.approx(np.std(mpd, ddof=1))
        assert numbers.loc[method, "srr_1mm"] == pytest.approx(np.mean(np.array(mpd) < 1))
        assert numbers.loc[method, "mpd_mm_median"] == pytest.approx(np.median(mpd))
    assert numbers["xrays"].tolist() == [6, 6, 6]
    assert numbers["specimens"].tolist() == [2, 2, 2]


def test_the_cells_are_the_numbers_rounded(table):
    row = cells(table, "perturbed")
    mpd = np.array(MPD["perturbed"])
    assert row["mpd mm"] == f"{mpd.mean():.2f} ± {mpd.std(ddof=1):.2f}" == "3.10 ± 4.45"
    assert re.fullmatch(r"50% \(\d+% to \d+%\)", row["SRR by mpd"])
    assert row["SRR by mrpd × 0.194"] == "83%"
    assert row["mrpd × 0.194 mm (DiffPose's code)"] == "0.60 ± 0.86"
    assert row["rotation °"] == f"{mpd.mean() / 4:.2f} ± {mpd.std(ddof=1) / 4:.2f}"
    assert row["translation mm"] == f"{3 * mpd.mean():.1f} ± {3 * mpd.std(ddof=1):.1f}"
    assert row["<2 / <5 / <10 mm"] == "67% / 83% / 83%"
    assert row["start mpd mm"].startswith("27.5 (")
    assert row["s per X-ray"] == "6.5"
    assert row["X-rays"] == "6"
    assert row["mpd median mm"].startswith("1.20 (")


def test_the_papers_figures_stand_beside_its_own_methods_only(table):
    columns = [column for column in table.shown.columns if column.startswith("paper: ")]
    assert columns == ["paper: mTRE mm", "paper: SRR", "paper: RE °", "paper: TE mm"]
    assert [cells(table, "diffdrr")[column] for column in columns] == [
        "25.08 ± 24.01",
        "26%",
        "10.8 ± 9.6",
        "72.5 ± 63.2",
    ]
    for method in ("perturbed", "perturbed+weights"):
        assert {cells(table, method)[column] for column in columns} == {"–"}


def test_medsam_has_the_figures_of_the_papers_text():
    own = registrations("perturbed").assign(method="wsreg-medsam")
    shown = table1(own, {"wsreg-medsam": "WSReg, MedSAM"}, seed=0).shown.iloc[0]
    assert (shown["paper: mTRE mm"], shown["paper: SRR"]) == ("0.95 ± 3.01", "84%")


def test_a_p_value_compares_with_the_row_above_of_the_same_start(table):
    p_values = table.numbers.set_index("method")["paired_p"]
    assert np.isnan(p_values["diffdrr"])
    assert np.isnan(p_values["perturbed"])
    expected = paired_test(registrations("perturbed"), registrations("perturbed+weights"), seed=0)
    assert p_values["perturbed+weights"] == expected.p_value == 0.5
    assert table.numbers.set_index("method")["paired_p_smallest"]["perturbed+weights"] == 0.5
    assert [cells(table, method)["p (smallest possible)"] for method in LABELS] == ["", "", "0.5 (0.5)"]


def test_two_columns_with_one_title_are_refused():
    shown = pd.DataFrame([["1", "2"]], columns=["paper", "paper "])
    with pytest.raises(ValueError, match="same title"):
        Table(pd.DataFrame(), shown)


def test_a_registration_without_a_result_is_counted_and_leaves_no_mean():
    rows = registrations("perturbed")
    errors = ["mpd_mm", "mpd_legacy", "tre_mm", "rotation_deg", "translation_mm"]
    rows.loc[rows["mpd_mm"] == 0.4, errors] = np.nan
    table = table1(rows, {"perturbed": "Perturbed truth"}, seed=0)
    row = cells(table, "perturbed")
    assert row["mpd mm"] == row["rotation °"] == row["mrpd × 0.194 mm (DiffPose's code)"] == "–"
    assert row["X-rays"] == "6, 1 without a result"
    assert row["SRR by mpd"].startswith("33% (")
    assert row["mpd median mm"].startswith("2.25 (")
    assert row["p95 mm"] == "inf"
    assert "nan" not in table.text


def test_the_markdown_is_a_table(table):
    lines = table.text.splitlines()
    assert len(lines) == 2 + 3
    assert set(lines[1]) <= set("|- ")
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].split("|")[1].strip() == "DiffDRR"


def test_the_latex_is_a_table_without_bare_special_characters(table):
    body = [line for line in table.latex.splitlines() if line.endswith(r"\\")]
    assert len(body) == 1 + 3
    width = len(table.shown.columns)
    assert table.latex.startswith(rf"\begin{{tabular}}{{{'l' * width}}}")
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {width - 1}
    assert r"\toprule" in table.latex
    assert not re.search(r"(?<!\\)[%_#]|[±°–]", table.latex)
    assert r"25.08 $\pm$ 24.01" in table.latex
    assert r"26\%" in table.latex


@pytest.mark.parametrize(
    ("label", "latex"),
    [
        ("a_b", r"a\_b"),
        ("50 %", r"50 \%"),
        ("A & B", r"A \& B"),
        ("#1", r"\#1"),
        ("$x$", r"\$x\$"),
        ("{a}", r"\{a\}"),
        ("a<b", "a$<$b"),
        ("2 × 3°", r"2 $\times$ 3$^\circ$"),
        ("a>b", "a$>$b"),
        ("a\\b", r"a\textbackslash b"),
        ("a~b^c", r"a\textasciitilde b\textasciicircum c"),
    ],
)
def test_a_label_is_escaped_for_latex(label, latex):
    table = Table(pd.DataFrame(), pd.DataFrame([{"Method": label}]))
    assert table.latex.splitlines()[-3] == latex + r" \\"


def test_a_label_does_not_add_columns_to_the_markdown():
    table = Table(pd.DataFrame(), pd.DataFrame([{"Method": "a|b"}]))
    assert table.text.splitlines()[2] == r"| a\|b     |"


def test_all_forms_are_written_with_their_notes(table, tmp_path):
    paths = [tmp_path / "tables" / f"table1.{suffix}" for suffix in ("csv", "md", "tex")]
    notes = ["Simulated X-rays: 100 % of them.", *TABLE1_NOTES]
    write_table(table, *paths, notes)
    assert sorted((tmp_path / "tables").iterdir()) == sorted(paths)
    csv, markdown, latex = paths
    pd.testing.assert_frame_equal(pd.read_csv(csv), table.numbers, check_dtype=False)
    assert markdown.read_text() == table.text + "\n\n" + "".join(f"- {note}\n" for note in notes)
    assert latex.read_text() == "".join(f"% {note}\n" for note in notes) + table.latex + "\n"


def test_the_notes_say_what_the_columns_mean():
    text = " ".join(TABLE1_NOTES)
    for word in ("mpd", "SRR", "Rotation", "Translation", "95%", "smallest p", "DeepFluoro", "DiffPose"):
        assert word in text


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "rows.csv"
    write_csv(path, pd.DataFrame({"a": [1]}))

    class Broken(pd.DataFrame):
        def to_csv(self, path, **options):
            path.write_text("a\n2")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_csv(path, Broken({"a": [2]}))
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_text() == "a\n1\n"


def test_names_that_look_like_numbers_stay_text(tmp_path):
    paths = []
    for specimen in ("17-1882", "0042"):
        paths.append(tmp_path / f"{specimen}.csv")
        write_csv(paths[-1], registrations("diffdrr", specimen))
    rows = read_registrations(paths)
    assert rows["specimen"].tolist() == ["17-1882"] * 3 + ["0042"] * 3
    assert rows["projection"].tolist() == ["000", "001", "002"] * 2
    assert rows.index.tolist() == [*range(6)]
    pd.testing.assert_series_equal(rows["mpd_mm"], registrations("diffdrr")["mpd_mm"])


@pytest.mark.parametrize("name", ["NA", "null", "nan", "1e5"])
def test_no_name_is_read_as_missing(tmp_path, name):
    path = tmp_path / "rows.csv"
    write_csv(path, registrations("diffdrr").assign(specimen=name, method=name))
    rows = read_registrations([path])
    assert set(rows["specimen"]) == {name}
    assert set(rows["method"]) == {name}


def test_the_log_summary_is_one_line_of_a_method_on_a_specimen():
    line = log_summary(registrations("perturbed", "17-1882"))
    assert line == (
        "perturbed on 17-1882: 67% of 3 X-rays below 1 mm, median mpd 0.90 mm, at the start 26.0 mm, 5.0 s per X-ray"
    )


def test_the_log_summary_ranks_a_registration_without_a_result_last():
    rows = registrations("perturbed", "17-1882").replace({"mpd_mm": {0.4: np.nan}})
    assert "33% of 3 X-rays below 1 mm, median mpd 1.50 mm" in log_summary(rows)


def test_trusted_registrations_are_counted_and_those_of_them_that_are_wrong(table):
    # The first four are trusted; 3.0 and 20, 40 and 8 mm are wrong.
    assert cells(table, "perturbed")["trusted (of these wrong)"] == "4 (1)"
    assert cells(table, "diffdrr")["trusted (of these wrong)"] == "4 (3)"
    assert cells(table, "perturbed+weights")["trusted (of these wrong)"] == "4 (0)"
    nothing = registrations("perturbed").assign(mpd_mm=float("nan"))
    assert table1(nothing, {"perturbed": "Perturbed truth"}, seed=0).numbers["trusted_wrong"].tolist() == [4]


def test_searches_anew_are_counted_and_those_of_them_that_were_kept():
    rows = registrations("perturbed").assign(fallback=["unused", "tried", "kept", "kept", "unused", "unused"])
    counted = table1(rows, {"perturbed": "Perturbed truth"}, seed=0)
    assert cells(counted, "perturbed")["searched again (kept)"] == "3 (2)"
    # Rows of a run that was made before there was such a column.
    old = table1(registrations("perturbed"), {"perturbed": "Perturbed truth"}, seed=0)
    assert cells(old, "perturbed")["searched again (kept)"] == "0 (0)"
