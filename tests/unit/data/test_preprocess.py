"""An image is prepared alike, whether it comes from a data set, from DICOM, or from a picture."""

import numpy as np
import pytest
import torch
import yaml
from builders import expose, phantom_ct, prepare_settings
from own_patient import carm_camera, write_carm_dicom
from PIL import Image

from roireg.data.deepfluoro_records import Projection, ProjectionParameters
from roireg.data.prepare import prepare_xray
from roireg.data.readers.xray import read_xray

SIZE, CROP, SMALL = 150, 8, 64
CAMERA = carm_camera(SIZE, 300.0, 1020.0)


def deepfluoro_parameters() -> ProjectionParameters:
    """The same detector as `CAMERA`, in the file's convention: columns and rows against camera axes."""
    k = CAMERA.intrinsics_px.numpy()
    intrinsic = np.array([[k[0, 0], 0.0, k[0, 2]], [0.0, -k[1, 1], k[1, 2]], [0.0, 0.0, 1.0]])
    along_row, along_column = CAMERA.pixel_spacing_mm
    return ProjectionParameters(np.eye(4), intrinsic, SIZE, SIZE, along_column, along_row)


@pytest.fixture(scope="module")
def projection() -> Projection:
    return expose(phantom_ct(), deepfluoro_parameters(), "000")


def test_the_two_detectors_are_one():
    torch.testing.assert_close(deepfluoro_parameters().camera().intrinsics_px, CAMERA.intrinsics_px)


def test_a_dicom_file_and_a_projection_of_the_same_pixels_give_the_same_image(projection, tmp_path):
    settings = prepare_settings(image_size_px=SMALL, crop_px=CROP)
    stored = prepare_xray("file", projection, deepfluoro_parameters(), settings)
    path = write_carm_dicom(tmp_path / "x.dcm", projection.intensity, CAMERA, (0.0, 0.0))
    single = read_xray(path, crop_px=CROP, size_px=SMALL)
    assert torch.equal(single.image, stored.image)
    assert single.image.shape == (SMALL, SMALL)
    torch.testing.assert_close(single.camera.intrinsics_px, stored.camera.intrinsics_px, rtol=1e-6, atol=1e-6)
    assert single.camera.pixel_spacing_mm == pytest.approx(stored.camera.pixel_spacing_mm, rel=1e-6)
    # Both without a stated position: the posterior-anterior view.
    torch.testing.assert_close(single.rig_from_camera, stored.rig_from_camera, rtol=0, atol=1e-3)


def test_a_picture_is_prepared_like_them(projection, tmp_path):
    settings = prepare_settings(image_size_px=SMALL, crop_px=CROP)
    stored = prepare_xray("file", projection, deepfluoro_parameters(), settings)
    Image.fromarray(projection.intensity).save(tmp_path / "x.png")
    entries = {"source_to_detector_mm": 1020.0, "pixel_spacing_mm": CAMERA.pixel_spacing_mm[0]}
    (tmp_path / "camera.yaml").write_text(yaml.safe_dump({**entries, "bone": "dark", "intensity": "linear"}))
    picture = read_xray(tmp_path / "x.png", tmp_path / "camera.yaml", crop_px=CROP, size_px=SMALL)
    assert torch.equal(picture.image, stored.image)
    torch.testing.assert_close(picture.camera.intrinsics_px, stored.camera.intrinsics_px)
    torch.testing.assert_close(picture.rig_from_camera, stored.rig_from_camera)


def test_a_single_bad_pixel_is_blurred_away_in_all_of_them(projection, tmp_path):
    spoilt = projection.intensity.copy()
    spoilt[SIZE // 2, SIZE // 2] = 1
    path = write_carm_dicom(tmp_path / "x.dcm", spoilt, CAMERA, (0.0, 0.0))
    image = read_xray(path, size_px=SIZE).image
    alone = -np.log(np.maximum(spoilt, 1).astype(float))
    alone = (alone - alone.min()) / (alone.max() - alone.min())
    middle = image[SIZE // 2, SIZE // 2]
    # Without the blur it would be the one brightest pixel of the image by far.
    assert alone[SIZE // 2, SIZE // 2] == 1
    neighbours = image[SIZE // 2 - 4 : SIZE // 2 + 5, SIZE // 2 - 4 : SIZE // 2 + 5].median()
    assert float(middle - neighbours) < 0.3
