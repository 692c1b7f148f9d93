"""X-rays that are fuzzed: DICOM plain, compressed and of several frames, pictures, and camera files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import yaml
from own_patient import carm_camera, write_carm_dicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, RLELossless
from scipy import ndimage

from reliability.mutations import BINARY_HEADER, TAGGED_HEADER, Mutator, odd_tree
from reliability.parts import GEOMETRY, VALUES, Parts, Subject, dicom_header
from roireg.data.readers.dicom_file import read_dicom
from roireg.data.readers.dicom_header import Header
from roireg.data.readers.raster import read_raster
from roireg.data.readers.xray import read_xray
from roireg.data.readers.xray_dicom import dicom_pixels
from roireg.data.xray import Xray

SIZE = 64
CAMERA = carm_camera(SIZE, 240.0, 1000.0)
PLAIN = {
    "source_to_detector_mm": 1000.0,
    "pixel_spacing_mm": [2.5, 2.5],
    "bone": "dark",
    "intensity": "linear",
    "primary_deg": 12.5,
    "secondary_deg": -3.0,
    "source_to_isocenter_mm": 720.0,
    "principal_point_px": [31.0, 32.5],
}


def xray_pixels() -> np.ndarray:
    """Intensities behind something with structure everywhere."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(SIZE, SIZE)), 3)
    return (20000 * np.exp(3 * noise)).clip(300, 60000).astype(np.uint16)


def _geometry(xray: Xray) -> np.ndarray:
    camera = xray.stored_camera
    assert camera is not None
    k, size = camera.intrinsics_px.numpy(), [camera.height, camera.width, *camera.pixel_spacing_mm]
    return np.concatenate([xray.rig_from_camera.numpy().ravel(), k.ravel(), size])


def _write_plain(folder: Path) -> None:
    write_carm_dicom(folder / "x.dcm", xray_pixels(), CAMERA, (12.0, -3.0))


def _write_frames(folder: Path) -> None:
    frames = np.stack([xray_pixels(), xray_pixels()[::-1], xray_pixels().T])
    write_carm_dicom(
        folder / "x.dcm",
        frames,
        CAMERA,
        (0.0, 0.0),
        NumberOfFrames=3,
        PositionerMotion="DYNAMIC",
        PositionerPrimaryAngleIncrement=["0", "10", "20"],
    )


def _write_rle(folder: Path) -> None:
    _write_plain(folder)
    dataset = pydicom.dcmread(folder / "x.dcm")
    dataset.compress(RLELossless)
    dataset.save_as(folder / "x.dcm")


def _write_jpeg_2000(folder: Path) -> None:
    """The codestream by Pillow."""
    import io

    _write_plain(folder)
    dataset = pydicom.dcmread(folder / "x.dcm")
    out = io.BytesIO()
    Image.fromarray(xray_pixels()).save(out, "JPEG2000", irreversible=False, no_jp2=True)
    dataset.PixelData = encapsulate([out.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.save_as(folder / "x.dcm")


def _read_dicom(frame: int) -> Callable[[Path], Parts]:
    def read(folder: Path) -> Parts:
        path = folder / "x.dcm"
        xray = read_xray(path, frame=frame)
        assert bool(xray.image.isfinite().all())
        return {VALUES: dicom_pixels(Header(path, read_dicom(path), frame)), GEOMETRY: _geometry(xray)}

    return read


def _write_picture(name: str, values: np.ndarray, **options) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        Image.fromarray(values).save(folder / name, **options)
        (folder / "camera.yaml").write_text(yaml.safe_dump(PLAIN))

    return write


def _read_picture(name: str) -> Callable[[Path], Parts]:
    def read(folder: Path) -> Parts:
        xray = read_xray(folder / name, folder / "camera.yaml")
        assert bool(xray.image.isfinite().all())
        return {VALUES: read_raster(folder / name).values, GEOMETRY: _geometry(xray)}

    return read


def _odd_camera(folder: Path, rng: np.random.Generator) -> str:
    path = folder / "camera.yaml"
    path.write_text(yaml.dump(odd_tree(PLAIN, rng), allow_unicode=bool(rng.integers(2))))
    return "odd entry"


def _dicom(name: str, write: Callable[[Path], None], frame: int = 0, **more) -> Subject:
    return Subject(name, write, "x.dcm", _read_dicom(frame), dicom_header, TAGGED_HEADER, **more)


def _picture(
    name: str, values: np.ndarray, header: int, mutators: Sequence[Mutator] = BINARY_HEADER, options=None, **more
) -> Subject:
    return Subject(
        name,
        _write_picture(name, values, **(options or {})),
        name,
        _read_picture(name),
        lambda data: header,
        mutators,
        **more,
    )


BYTES = (xray_pixels() // 256).astype(np.uint8)
XRAYS = (
    _dicom("DICOM X-ray", _write_plain),
    _dicom("DICOM X-ray of 3 frames", _write_frames, 1),
    _dicom("DICOM X-ray RLE", _write_rle, spread=True),
    # Each is decoded in a process of its own.
    _dicom("DICOM X-ray JPEG 2000", _write_jpeg_2000, spread=True, weight=0.1),
    _picture("x.png", xray_pixels(), 60, protected=frozenset({VALUES})),
    _picture("x.tif", xray_pixels(), 200, loose=True),
    _picture("packed.tif", xray_pixels(), 200, options={"compression": "tiff_adobe_deflate"}, loose=True, spread=True),
    _picture("float.tif", xray_pixels().astype(np.float32), 200, loose=True),
    _picture("x.jpg", BYTES, 330, spread=True),
    Subject(
        "camera file",
        _write_picture("x.png", xray_pixels()),
        "camera.yaml",
        _read_picture("x.png"),
        protected=frozenset({VALUES}),
        odd=_odd_camera,
        weight=2.0,
    ),
)
