"""Odd X-rays: the right geometry and grey scale, or one line that names the tag."""

import numpy as np
import pydicom
import pytest
import torch
import yaml
from own_patient import carm_camera, carm_zero, write_carm_dicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from scipy import ndimage

from roireg.data.readers.xray import read_xray
from roireg.errors import InputError

SIZE = 96
CAMERA = carm_camera(SIZE, 240.0, 1000.0)
RNG = np.random.default_rng(0)
PIXELS = (20000 * np.exp(ndimage.gaussian_filter(RNG.normal(size=(SIZE, SIZE)), 3) * 3)).clip(300, 60000)
PIXELS = PIXELS.astype(np.uint16)
PLAIN = {"source_to_detector_mm": 1000.0, "pixel_spacing_mm": 2.5, "bone": "dark", "intensity": "linear"}


@pytest.fixture
def dicom(tmp_path):
    def write(angles=(0.0, 0.0), pixels=PIXELS, **changes):
        return write_carm_dicom(tmp_path / "x.dcm", pixels, CAMERA, angles, **changes)

    return write


@pytest.fixture
def patched(tmp_path, dicom):
    """A file with raw text in a tag, whatever a library thinks of it."""

    def write(keyword, text):
        data = dicom().read_bytes()
        tag = pydicom.datadict.tag_for_keyword(keyword)
        at = data.index((tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little"))
        length = int.from_bytes(data[at + 6 : at + 8], "little")
        raw = text.encode() + b" " * (len(text.encode()) % 2)
        path = tmp_path / "patched.dcm"
        path.write_bytes(data[: at + 6] + len(raw).to_bytes(2, "little") + raw + data[at + 8 + length :])
        return path

    return write


def fault(path, camera=None, frame=0) -> InputError:
    with pytest.raises(InputError) as raised:
        read_xray(path, camera, frame)
    assert "\n" not in str(raised.value)
    return raised.value


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("ImagerPixelSpacing", "2,5\\2,5"),
        ("DistanceSourceToDetector", "1000,0"),
        ("DistanceSourceToDetector", "1000\0"),
        ("PositionerPrimaryAngle", "360"),
        ("PositionerPrimaryAngle", "0.0 "),
    ],
)
def test_numbers_that_can_be_meant_are_read(patched, dicom, keyword, text):
    found, plain = read_xray(patched(keyword, text)), read_xray(dicom())
    assert torch.allclose(found.camera.intrinsics_px, plain.camera.intrinsics_px)
    assert torch.allclose(found.rig_from_camera, plain.rig_from_camera, atol=1e-9)


def test_an_angle_beyond_half_a_turn_is_the_same_direction(patched, dicom):
    found = read_xray(patched("PositionerPrimaryAngle", "352"))
    assert torch.allclose(found.rig_from_camera, read_xray(dicom((-8.0, 0.0))).rig_from_camera, atol=1e-9)


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("ImagerPixelSpacing", "2.5"),
        ("ImagerPixelSpacing", "0\\0"),
        ("ImagerPixelSpacing", "-2.5\\2.5"),
        ("ImagerPixelSpacing", "2.5\\2.5\\1"),
        ("ImagerPixelSpacing", ""),
        ("ImagerPixelSpacing", "NaN\\2.5"),
        ("DistanceSourceToDetector", "1000 mm"),
        ("DistanceSourceToDetector", "-1000"),
        ("DistanceSourceToDetector", "1.0"),
        ("DistanceSourceToDetector", "inf"),
        ("DistanceSourceToDetector", "1e300"),
        ("DistanceSourceToPatient", "0.734"),
        ("PositionerPrimaryAngle", "8\\10"),
        ("PositionerPrimaryAngle", "NaN"),
        ("PositionerPrimaryAngle", "left"),
        ("PositionerPrimaryAngle", "4000"),
    ],
)
def test_numbers_that_cannot_be_meant_name_their_tag(patched, keyword, text):
    assert keyword in str(fault(patched(keyword, text)))


def test_a_file_without_preamble_is_read(tmp_path, dicom):
    whole = read_xray(dicom())
    data = dicom().read_bytes()
    for name, start in (("meta", 132), ("bare", data.index(b"\x08\x00\x16\x00"))):
        path = tmp_path / f"{name}.dcm"
        path.write_bytes(data[start:])
        assert torch.equal(read_xray(path).image, whole.image)


def test_a_cut_file_and_one_without_pixels_are_told(tmp_path, dicom):
    data = dicom().read_bytes()
    path = tmp_path / "cut.dcm"
    for end in (len(data) // 2, len(data) - 1, 200, 140):
        path.write_bytes(data[:end])
        fault(path)
    path.write_bytes(data[: data.index(b"\xe0\x7f\x10\x00")])
    assert "no pixels" in fault(path).what


def test_pixels_that_were_moved_within_the_file_are_told(tmp_path, dicom):
    """Bytes put in where a picture is dark behind: what they push beyond its end are zeros, as padding is."""
    data = dicom(pixels=np.where(np.arange(len(PIXELS))[:, None] > 50, 0, PIXELS)).read_bytes()
    path = tmp_path / "moved.dcm"
    for count in (1, 2, 381):
        path.write_bytes(data[:-5000] + bytes(range(1, 200)) * (count // 199) + b"\1" * (count % 199) + data[-5000:])
        assert "follows its pixels" in fault(path).what
    whole = tmp_path / "whole.dcm"
    whole.write_bytes(data)
    path.write_bytes(data + bytes(-len(data) % 512))
    assert torch.equal(read_xray(path).image, read_xray(whole).image)


RUN = np.stack([PIXELS] * 5)


@pytest.mark.parametrize(
    "changes",
    [
        {"PositionerPrimaryAngle": "-60", "PositionerPrimaryAngleIncrement": ["0", "30", "60", "90", "120"]},
        {"PositionerPrimaryAngle": ["-60", "-30", "0", "30", "60"]},
        {"PositionerPrimaryAngle": "-60", "PositionerPrimaryAngleIncrement": "30"},
    ],
)
def test_a_frame_of_a_rotational_run_has_its_own_angle(dicom, changes):
    path = dicom(pixels=RUN, NumberOfFrames=5, **changes)
    for frame, angle in enumerate((-60.0, -30.0, 0.0, 30.0, 60.0)):
        found = read_xray(path, frame=frame).rig_from_camera
        expected = carm_zero((angle, 0.0))
        assert torch.allclose(found[:3, :3], expected[:3, :3], atol=1e-9)
    assert "5 frames" in fault(path, frame=5).what


def test_another_number_of_increments_than_frames_is_told(dicom):
    path = dicom(pixels=RUN, NumberOfFrames=5, PositionerPrimaryAngleIncrement=["0", "30"])
    assert "PositionerPrimaryAngleIncrement" in str(fault(path))


def test_an_enhanced_x_ray_keeps_its_geometry_in_functional_groups(tmp_path):
    path = write_carm_dicom(tmp_path / "e.dcm", RUN[:2], CAMERA, (0.0, 0.0), NumberOfFrames=2)
    dataset = pydicom.dcmread(path)

    def item(**values):
        one = Dataset()
        for key, value in values.items():
            setattr(one, key, value)
        return one

    spacing, distance = dataset.ImagerPixelSpacing, dataset.DistanceSourceToDetector
    for keyword in ("ImagerPixelSpacing", "DistanceSourceToDetector", "DistanceSourceToPatient"):
        delattr(dataset, keyword)
    del dataset.PositionerPrimaryAngle, dataset.PositionerSecondaryAngle
    shared = item(
        FramePixelDataPropertiesSequence=Sequence([item(ImagerPixelSpacing=spacing)]),
        XRayGeometrySequence=Sequence([item(DistanceSourceToDetector=distance, DistanceSourceToIsocenter=734.4)]),
    )
    frames = [
        item(PositionerPositionSequence=Sequence([item(PositionerPrimaryAngle=angle, PositionerSecondaryAngle="5")]))
        for angle in ("-20", "40")
    ]
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    dataset.save_as(path)
    for frame, angle in enumerate((-20.0, 40.0)):
        found = read_xray(path, frame=frame)
        assert torch.allclose(found.rig_from_camera, carm_zero((angle, 5.0)), atol=1e-6)
        assert found.camera.source_to_detector_mm == pytest.approx(1000.0)


LOG = np.log(PIXELS.astype(float))
DARK = (4095 * (LOG - LOG.min()) / np.ptp(LOG)).astype(np.uint16)
BRIGHT = (4095 - DARK).astype(np.uint16)
NO = dict.fromkeys(("PixelIntensityRelationship", "PixelIntensityRelationshipSign"))


@pytest.mark.parametrize(
    ("pixels", "changes"),
    [
        (BRIGHT, {"Modality": "DX"}),
        (DARK, {"Modality": "DX", "PhotometricInterpretation": "MONOCHROME1"}),
        (DARK, {"Modality": "DX", "RescaleSlope": "-1", "RescaleIntercept": "4095"}),
        (DARK, {"Modality": "CR", "PresentationLUTShape": "INVERSE"}),
        (DARK, {}),
        (DARK, {"Modality": "RF", "PhotometricInterpretation": "MONOCHROME1"}),
    ],
)
def test_bone_is_bright_by_slope_and_look_up_table(dicom, pixels, changes):
    xray = read_xray(dicom(pixels=pixels, **NO, **changes), size_px=SIZE)
    correlation = np.corrcoef(xray.image.numpy().ravel(), -LOG.ravel())[0, 1]
    assert correlation > 0.5
    # What was assumed can be taken the other way round, once.
    other = xray.with_other_polarity()
    assert np.corrcoef(other.image.numpy().ravel(), -LOG.ravel())[0, 1] < -0.5
    assert any("opposite was taken" in one for one in other.warnings)
    assert torch.equal(other.with_other_polarity().image, xray.image)


def test_a_stated_polarity_is_not_turned_round(dicom):
    assert read_xray(dicom()).other_image is None


@pytest.mark.parametrize("syntax", ["JPEGLosslessSV1", "JPEGLSLossless", "JPEG2000Lossless"])
def test_compressed_pixels_are_decoded(tmp_path, dicom, syntax):
    """Written by GDCM, which also decodes: what is under test is that our reader passes pixels and tags through."""
    import SimpleITK as sitk

    plain = dicom(pixels=PIXELS)
    writer = sitk.ImageFileWriter()
    names = {"JPEGLosslessSV1": "JPEG", "JPEGLSLossless": "JPEGLS", "JPEG2000Lossless": "JPEG2000"}
    image = sitk.GetImageFromArray(PIXELS[None])
    writer.SetFileName(str(tmp_path / "c.dcm"))
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor(names[syntax])
    writer.Execute(image)
    packed, dataset = pydicom.dcmread(tmp_path / "c.dcm"), pydicom.dcmread(plain)
    if not packed.file_meta.TransferSyntaxUID.is_compressed:
        pytest.skip("this build of GDCM does not write it")
    dataset.PixelData = packed.PixelData
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
    dataset.save_as(tmp_path / "j.dcm")
    assert torch.equal(read_xray(tmp_path / "j.dcm").image, read_xray(plain).image)
    data = (tmp_path / "j.dcm").read_bytes()
    (tmp_path / "j.dcm").write_bytes(data[: len(data) * 2 // 3])
    fault(tmp_path / "j.dcm")


@pytest.fixture
def picture(tmp_path):
    def write(image, name="x.png", **changes):
        path = tmp_path / name
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        image.save(path, **changes.pop("save", {}))
        entries = {key: value for key, value in {**PLAIN, **changes}.items() if value is not None}
        (tmp_path / "camera.yaml").write_text(yaml.safe_dump(entries))
        return path, tmp_path / "camera.yaml"

    return write


GREY = (PIXELS // 256).astype(np.uint8)


def test_a_palette_and_alpha_are_applied(picture):
    plain = read_xray(*picture(GREY)).image
    turned = Image.fromarray(255 - GREY, "P")
    turned.putpalette([255 - k // 3 for k in range(768)])
    assert torch.equal(read_xray(*picture(turned)).image, plain)
    opaque = Image.fromarray(np.dstack([GREY, np.full_like(GREY, 255)]), "LA")
    assert torch.equal(read_xray(*picture(opaque)).image, plain)


def test_pages_and_white_is_zero_of_tiff_are_heeded(picture, tmp_path):
    pages = [Image.fromarray(one) for one in (GREY, GREY[::-1].copy(), GREY.T.copy())]
    path, camera = picture(pages[0], "x.tif", save={"save_all": True, "append_images": pages[1:]})
    for frame, values in enumerate((GREY, GREY[::-1], GREY.T)):
        assert torch.equal(read_xray(path, camera, frame).image, read_xray(*picture(values.copy())).image)
    assert "3 pages" in fault(path, camera, 3).what
    assert "1 page" in fault(*picture(GREY), frame=1).what


def test_white_is_zero_turns_16_bits_round(picture, tmp_path):
    path, camera = picture(PIXELS, "w.tif")
    plain = read_xray(path, camera).image
    data = path.read_bytes()
    order = "little" if data[:2] == b"II" else "big"
    entry = (262).to_bytes(2, order) + (3).to_bytes(2, order) + (1).to_bytes(4, order)
    at = data.index(entry) + 8
    turned, _ = picture(65535 - PIXELS, "v.tif")
    raw = bytearray(turned.read_bytes())
    at = raw.index(entry) + 8
    raw[at : at + 2] = (0).to_bytes(2, order)
    turned.write_bytes(bytes(raw))
    assert torch.allclose(read_xray(turned, camera).image, plain, atol=1e-6)


ODD = {
    "one pixel": np.where((np.arange(SIZE * SIZE) == 4000).reshape(SIZE, SIZE), 200, 0).astype(np.uint8),
    "one bit": Image.fromarray(GREY > 80),
    "negative": (-PIXELS.astype(np.float32)),
    "nan": np.where(PIXELS > 20000, np.nan, PIXELS.astype(np.float32)),
    "flat": np.full((SIZE, SIZE), 7, np.uint8),
}


@pytest.mark.parametrize("case", ODD)
def test_pictures_that_show_nothing_are_told(picture, case):
    name = "x.tif" if case in ("negative", "nan") else "x.png"
    fault(*picture(ODD[case], name))


def test_a_picture_of_impossible_shape_is_told(picture):
    fault(*picture(np.tile(GREY[:64, :1], (1, 100_000)), "long.png"))


@pytest.mark.parametrize(
    "changes",
    [
        {"source_to_detector_mm": float("nan")},
        {"source_to_detector_mm": float("inf")},
        {"source_to_detector_mm": -1000.0},
        {"source_to_detector_mm": 1.0},
        {"source_to_isocenter_mm": 1200.0},
        {"pixel_spacing_mm": 0},
        {"pixel_spacing_mm": [2.5, 2.5, 1]},
        {"primary_deg": float("nan")},
        {"rig_from_camera": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 2, 3, 4]]},
        {"rig_from_camera": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]]},
        {"rig_from_camera": [[1, 0, 0, float("inf")], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]},
    ],
)
def test_numbers_of_a_camera_file_that_cannot_be_meant_name_their_key(picture, changes):
    assert next(iter(changes)) in str(fault(*picture(GREY, **changes)))


def test_a_decimal_comma_is_a_point(picture):
    plain = read_xray(*picture(GREY))
    path, camera = picture(GREY)
    camera.write_text("\ufeff" + camera.read_text().replace("2.5", "2,5"), encoding="utf-8")
    assert torch.equal(read_xray(path, camera).camera.intrinsics_px, plain.camera.intrinsics_px)


@pytest.mark.parametrize(
    "text",
    [
        "&a [*a]",
        "a: &a [1,1]\nb: &b [*a,*a]\nc: [*b,*b]",
        "a: &a {b: *a}",
        "a0: &a0 [1,1,1,1]\n" + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20)),
        "[" * 5000,
        "source_to_detector_mm: 1000\nsource_to_detector_mm: 900\n",
        "{? [1, 2] : 3}",
        "\0\0",
        "x: !!python/object/apply:os.system [ls]",
        "1",
        "",
    ],
)
def test_yaml_that_is_odd_is_one_line(picture, text):
    path, camera = picture(GREY)
    camera.write_text(text)
    fault(path, camera)
