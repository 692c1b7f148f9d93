"""X-rays divided among several jobs, and their results joined again."""

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roireg.errors import InputError
from roireg.workflow.shards import join_rows, join_traces, numbered_shards, of_shard


@given(count=st.integers(1, 200), per_job=st.integers(1, 50))
def test_shards_contain_every_xray_once_and_none_too_many(count, per_job):
    shards = [of_shard(range(count), shard) for shard in numbered_shards(count, per_job)]
    assert sorted(xray for shard in shards for xray in shard) == list(range(count))
    assert max(len(shard) for shard in shards) <= per_job
    assert len(shards) == -(-count // per_job)


def test_more_xrays_than_were_planned_for_are_still_all_assigned():
    shards = [of_shard(range(9), shard) for shard in numbered_shards(6, 3)]
    assert sorted(xray for shard in shards for xray in shard) == list(range(9))


def test_fewer_xrays_than_shards_are_explained():
    with pytest.raises(InputError, match=r"deepfluoro\.xrays"):
        of_shard(range(2), "3-of-4")


def test_joined_rows_are_in_the_order_of_the_xrays_and_numbers_are_as_written(tmp_path):
    whole = pd.DataFrame(
        {"specimen": "NA", "projection": ["000", "001", "002"], "mpd_mm": ["0.1", "1e-17", "0.30000000000000004"]}
    )
    for number in range(2):
        whole.iloc[number::2].to_csv(tmp_path / f"{number}.csv", index=False)
    join_rows(tmp_path / "all.csv", [tmp_path / "1.csv", tmp_path / "0.csv"])
    assert (tmp_path / "all.csv").read_text() == whole.to_csv(index=False)


def test_joined_traces_are_all_of_the_parts(tmp_path):
    for number in range(2):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            group = file.create_group(f"00{number}")
            group["terms/roi"] = np.arange(number + 3.0)
            group.attrs["best"] = number
    join_traces(tmp_path / "all.h5", [tmp_path / "0.h5", tmp_path / "1.h5"])
    with h5py.File(tmp_path / "all.h5") as file:
        assert list(file) == ["000", "001"]
        assert file["001/terms/roi"][()].tolist() == [0, 1, 2, 3]
        assert file["001"].attrs["best"] == 1
