"""The table of bones: failures count, and pelvis with femurs is compared with pelvis alone."""

import math

import pandas as pd
import pytest

from roireg.tables.bones import BONES_NOTES, bones_table
from roireg.tables.table import write_table

PELVIS, LEFT, RIGHT = "left hemipelvis+right hemipelvis", "left femur", "right femur"
ERRORS = {
    # Bone and what is refined with it: error of four X-rays before, and after.
    (LEFT, RIGHT): ([6.0, 7.0, 8.0, 9.0], [0.5, 1.5, 2.5, math.nan]),
    (PELVIS, ""): ([0.2] * 4, [0.4] * 4),
    (PELVIS, f"{LEFT}, {RIGHT}"): ([0.2] * 4, [0.1] * 4),
    (LEFT, f"{PELVIS}, {RIGHT}"): ([6.0, 7.0, 8.0, 9.0], [0.3, 1.3, 2.6, 1.0]),
}


def rows() -> pd.DataFrame:
    out = []
    for (bone, others), (before, after) in ERRORS.items():
        for index, (start, end) in enumerate(zip(before, after, strict=True)):
            out.append(
                {
                    "specimen": f"demo-0{1 + index // 2}",
                    "projection": f"{index % 2:03d}",
                    "method": "pa+gn",
                    "bone": bone,
                    # As read from a file, where nothing is an empty cell.
                    "together_with": others or math.nan,
                    "in_picture": 0.5,
                    "init_mpd_mm": start,
                    "init_tre_mm": 2 * start,
                    "mpd_mm": end,
                    "tre_mm": 3 * end,
                    "mpd_legacy": end,
                    "rotation_deg": end,
                    "translation_mm": end,
                    "seconds": 1.0,
                    "verdict": "failed" if math.isnan(end) else "trusted",
                }
            )
    return pd.DataFrame(out)


def test_failures_count_and_each_row_is_compared_with_its_start_and_with_fewer_bones(tmp_path):
    table = bones_table(rows(), {"pa+gn": "From PA"}, 0)
    numbers = table.numbers.set_index(["bone", "together_with"])
    left = numbers.loc[(LEFT, RIGHT)]
    assert (left["xrays"], left["failures"], left["srr_2mm"], left["init_srr_2mm"]) == (4, 1, 0.5, 0.0)
    assert (left["trusted"], left["trusted_wrong"], left["better"], left["worse"]) == (3, 1, 3, 1)
    assert left["mpd_mm_median"] == pytest.approx(2.0)
    assert left["tre_mm_median"] == pytest.approx(6.0)
    assert left["difference_median"] == pytest.approx(-5.5)
    pelvis = numbers.loc[(PELVIS, f"{LEFT}, {RIGHT}")]
    assert pelvis["difference_median"] == pytest.approx(-0.1)
    assert pelvis["alone_difference_median"] == pytest.approx(-0.3)
    assert (pelvis["alone_better"], pelvis["alone_worse"]) == (4, 0)
    assert math.isnan(numbers.loc[(PELVIS, "")]["alone_difference_median"])
    # The failure of the femurs without the pelvis is worse than any error with it.
    assert numbers.loc[(LEFT, f"{PELVIS}, {RIGHT}")]["alone_better"] == 3
    assert table.shown["<2 mm: start, end"].tolist() == ["0%, 50%", "100%, 100%", "100%, 100%", "0%, 75%"]
    paths = [tmp_path / f"bones.{ending}" for ending in ("csv", "md", "tex")]
    write_table(table, *paths, BONES_NOTES)
    assert "counts as a failure" in paths[1].read_text()
