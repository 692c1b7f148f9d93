"""Names of labels mean the same however a file or a config spells them."""

import h5py
import numpy as np
import pytest
import torch
from builders import carm, prepare_settings, write_small_dataset

from roireg.data.deepfluoro import read_ct
from roireg.data.label_names import check_distinct, label_ids, normalized
from roireg.data.prepare import prepare_specimen
from roireg.data.readers.hdf5_file import open_dataset
from roireg.errors import InputError
from roireg.register.roi import Regions
from roireg.register.settings import MaskSettings
from roireg.segment.augment import mirrored_numbers

SMALL = carm(rows=56, columns=48, row_spacing_mm=6.0, column_spacing_mm=6.5)
NAMES = {3: "left-hemipelvis", 7: "Right_Hemipelvis", 12: "upper  sacrum "}


@pytest.mark.parametrize(
    "spelling", ["left hemipelvis", "left-hemipelvis", "Left_Hemipelvis", " LEFT - hemipelvis", "left\themipelvis"]
)
def test_case_hyphens_underscores_and_blanks_do_not_count(spelling):
    assert normalized(spelling) == "left hemipelvis"


def test_other_words_are_other_names():
    assert normalized("left femur") != normalized("leftfemur")
    assert normalized("vertebra L5") != normalized("vertebra L4")


def test_ids_come_in_the_order_of_the_names():
    assert label_ids(NAMES, ["upper sacrum", "right-hemipelvis"], "rois") == [12, 7]
    with pytest.raises(InputError) as raised:
        label_ids(NAMES, ["lower sacrum"], "rois")
    assert raised.value.where == "rois: 'lower sacrum'"
    assert "left-hemipelvis" in raised.value.remedy


def test_two_spellings_of_one_name_are_refused():
    with pytest.raises(InputError, match="'left-femur' and 'Left femur' are the same name"):
        check_distinct(["left-femur", "sacrum", "Left femur"], "a file", "Rename one")
    check_distinct(iter(["left femur", "right femur"]), "a file", "Rename one")


def test_a_file_with_hyphens_serves_a_config_without(tmp_path):
    path = write_small_dataset(tmp_path / "hyphens.h5", ("x",), (False,), parameters=SMALL, label_names=NAMES)
    with open_dataset(path) as file:
        ct = read_ct(file, "x")
        settings = prepare_settings(crop_px=0, isocenter=("left hemipelvis", "right hemipelvis"))
        patient, _ = prepare_specimen(file, "x", settings)
    assert ct.label_names == {3: "left-hemipelvis", 7: "Right_Hemipelvis", 12: "upper  sacrum"}
    mask = patient.label_mask(["Left hemipelvis", "upper_sacrum"])
    assert torch.equal(mask, torch.from_numpy(np.isin(ct.labels, [3, 12])))


def test_a_file_that_names_two_labels_alike_is_refused(tmp_path):
    path = write_small_dataset(tmp_path / "twice.h5", ("x",), (False,), parameters=SMALL, label_names=NAMES)
    with h5py.File(path, "r+") as file:
        file["x/vol-seg/labels-def/13"] = "upper-sacrum"
    with open_dataset(path) as file, pytest.raises(InputError) as raised:
        read_ct(file, "x")
    assert raised.value.where == f"{path}:x/vol-seg/labels-def"


def test_left_and_right_change_places_however_they_are_spelled():
    assert mirrored_numbers(["left-femur", "Right_femur", "sacrum"]).tolist() == [0, 2, 1, 3]


def test_a_roi_term_finds_its_rois_however_they_are_spelled():
    assert Regions(MaskSettings("unet", rois=("left-femur",)), ("sacrum", "Left femur")).channels == [1]
