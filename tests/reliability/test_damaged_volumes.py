"""A compressed volume that is damaged is never read as whole; plain ones are held against their headers."""

import gzip

import numpy as np
import pytest
import SimpleITK as sitk
from own_patient import itk_image

from reliability.damage import cut, flipped, zeroed
from roireg.data.readers.ct import read_patient
from roireg.data.readers.volumes import read_volume
from roireg.errors import InputError

RNG = np.random.default_rng(1)
SHAPE = (20, 24, 28)
FRAME = np.diag([3.0, 3.0, 4.0, 1.0])
HU = np.full(SHAPE, -1000, np.int16)
HU[2:-2, 4:-4, 4:-4] = 40
HU[3:9, 6:12, 6:20] = 900
HU += RNG.integers(-5, 5, SHAPE).astype(np.int16)


def written(folder, name):
    path = folder / name
    sitk.WriteImage(itk_image(HU, FRAME), str(path), useCompression=not name.startswith("plain"))
    return path


COMPRESSED = ["ct.nii.gz", "ct.nrrd", "ct.mha"]


@pytest.mark.parametrize("name", COMPRESSED)
@pytest.mark.parametrize("damage", [cut, flipped, zeroed])
def test_a_damaged_compressed_volume_is_refused_or_read_right(tmp_path, name, damage):
    path = written(tmp_path, name)
    data = path.read_bytes()
    whole = read_volume(path).values
    # Of a gzip header a time or a system may change, and of a text header blanks: then the volume is the same.
    refused = 0
    for seed in range(40):
        path.write_bytes(damage(data, np.random.default_rng(seed)))
        try:
            found = read_volume(path)
        except InputError:
            refused += 1
        else:
            np.testing.assert_array_equal(found.values, whole)
    assert refused >= 38 if damage is cut else refused >= 30


@pytest.mark.parametrize("name", [*COMPRESSED, "plain.nii", "plain.nrrd", "plain.mha"])
@pytest.mark.parametrize("left", [0.1, 0.5, 0.9, 0.999])
def test_every_cut_is_told(tmp_path, name, left):
    path = written(tmp_path, name)
    path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
    with pytest.raises(InputError, match=r"truncated|damaged|ElementDataFile"):
        read_volume(path)


@pytest.mark.parametrize("lost", [1, 4, 8])
def test_a_gzip_trailer_that_is_cut_or_wrong_is_told(tmp_path, lost):
    path = written(tmp_path, "ct.nii.gz")
    data = path.read_bytes()
    path.write_bytes(data[:-lost])
    with pytest.raises(InputError, match=r"truncated|damaged"):
        read_volume(path)
    path.write_bytes(data[:-lost] + bytes(255 - byte for byte in data[-lost:]))
    with pytest.raises(InputError, match="damaged"):
        read_volume(path)


def test_voxels_beyond_what_the_header_says_are_told(tmp_path):
    path = written(tmp_path, "plain.nii")
    path.write_bytes(path.read_bytes() + bytes(10_000))
    with pytest.raises(InputError, match="more voxels"):
        read_volume(path)


def test_a_cut_label_file_loses_no_label_silently(tmp_path):
    ct = written(tmp_path, "ct.nii.gz")
    ids = np.zeros(SHAPE, np.uint8)
    ids[3:6], ids[15:18] = 1, 2
    labels = tmp_path / "labels.nii.gz"
    sitk.WriteImage(itk_image(ids, FRAME), str(labels))
    assert len(read_patient(ct, labels).label_names) == 2
    labels.write_bytes(labels.read_bytes()[:-12])
    with pytest.raises(InputError, match=r"truncated|damaged"):
        read_patient(ct, labels)


def test_a_gzipped_volume_may_have_any_name(tmp_path):
    path = tmp_path / "ct.nii"
    path.write_bytes(written(tmp_path, "ct.nii.gz").read_bytes())
    np.testing.assert_array_equal(read_volume(path).values, HU)
    plain = tmp_path / "other.nii.gz"
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    np.testing.assert_array_equal(read_volume(plain).values, HU)


def test_a_header_that_asks_for_terabytes_is_refused_before_they_are_allocated(tmp_path):
    path = tmp_path / "huge.nrrd"
    head = "NRRD0004\ntype: short\ndimension: 3\nsizes: 60000 60000 60000\nendian: little\nencoding: raw\n"
    head += "space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n\n"
    path.write_bytes(head.encode() + bytes(1000))
    with pytest.raises(InputError, match=r"truncated|memory"):
        read_volume(path)
