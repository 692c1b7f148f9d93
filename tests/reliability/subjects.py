"""What is fuzzed: each kind of file that users bring, written small and whole, and how it is read."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from own_patient import itk_image, write_ct_series, write_enhanced_ct

from reliability.fuzzed_tables import TABLES
from reliability.fuzzed_xrays import XRAYS
from reliability.mutations import BINARY_HEADER, TAGGED_HEADER, TEXT_HEADER, Mutator
from reliability.parts import EVERYTHING, GEOMETRY, VALUES, Parts, Subject, dicom_header, text_part
from roireg.data.readers.ct import read_patient
from roireg.data.readers.labels import read_labels
from roireg.data.readers.volumes import read_volume

SHAPE = (20, 24, 28)
FRAME = np.diag([3.0, 3.0, 4.0, 1.0])
FRAME[:3, 3] = (-30.0, 12.5, 100.0)


def phantom_hu() -> np.ndarray:
    """A patient in Hounsfield units: air, water with noise, and a bone."""
    rng = np.random.default_rng(1)
    hu = np.full(SHAPE, -1000, np.int16)
    hu[2:-2, 4:-4, 4:-4] = 40
    hu[3:9, 6:12, 6:20] = 900
    return hu + rng.integers(-5, 5, SHAPE).astype(np.int16)


def volume_parts(path: Path) -> Parts:
    """Voxels and frame, after everything that `roireg register` asks of a CT."""
    stored = read_volume(path)
    read_patient(path)
    return {VALUES: stored.values, GEOMETRY: stored.frame}


def _itk(name: str, compressed: bool) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        sitk.WriteImage(itk_image(phantom_hu(), FRAME), str(folder / name), useCompression=compressed)

    return write


def _text_header(end: bytes) -> Callable[[bytes], int]:
    def length(data: bytes) -> int:
        at = data.find(end)
        return len(data) if at < 0 else data.find(b"\n", at + len(end) - 1) + 1

    return length


def _volume(
    name: str, compressed: bool, header: Callable[[bytes], int], mutators: Sequence[Mutator], **more
) -> Subject:
    return Subject(
        f"{name}{' compressed' if compressed and not name.endswith('gz') else ''}",
        _itk(name, compressed),
        name,
        lambda folder: volume_parts(folder / name),
        header,
        mutators,
        **more,
    )


def _write_nhdr(folder: Path) -> None:
    sitk.WriteImage(itk_image(phantom_hu(), FRAME), str(folder / "ct.nhdr"), useCompression=True)


NRRD_HEAD, META_HEAD = _text_header(b"\n\n"), _text_header(b"ElementDataFile")
VOLUMES = (
    _volume("ct.nii", False, lambda data: 352, BINARY_HEADER),
    _volume("ct.nii.gz", True, lambda data: 10, BINARY_HEADER, protected=EVERYTHING),
    _volume("ct.nrrd", False, NRRD_HEAD, TEXT_HEADER),
    _volume("ct.nrrd", True, NRRD_HEAD, TEXT_HEADER),
    _volume("ct.mha", False, META_HEAD, TEXT_HEADER),
    _volume("ct.mha", True, META_HEAD, TEXT_HEADER),
    Subject("nhdr header", _write_nhdr, "ct.nhdr", lambda folder: volume_parts(folder / "ct.nhdr"), None, TEXT_HEADER),
    Subject(
        "nhdr voxels",
        _write_nhdr,
        "ct.raw.gz",
        lambda folder: volume_parts(folder / "ct.nhdr"),
        lambda data: 10,
        BINARY_HEADER,
        protected=EVERYTHING,
    ),
)


def label_ids() -> np.ndarray:
    """Two labels in the phantom."""
    ids = np.zeros(SHAPE, np.uint8)
    ids[3:9, 6:12, 6:20], ids[12:16, 8:16, 8:16] = 1, 2
    return ids


def _write_labelled(folder: Path) -> None:
    _itk("ct.nii.gz", True)(folder)
    sitk.WriteImage(itk_image(label_ids(), FRAME), str(folder / "labels.nii.gz"))
    plain = itk_image(label_ids(), FRAME)
    for key, value in {
        "Segment0_Name": "femur",
        "Segment0_LabelValue": "1",
        "Segment0_Layer": "0",
        "Segment1_Name": "hip",
        "Segment1_LabelValue": "2",
        "Segment1_Layer": "0",
    }.items():
        plain.SetMetaData(key, value)
    sitk.WriteImage(plain, str(folder / "labels.seg.nrrd"), useCompression=True)
    (folder / "names.yaml").write_text("1: femur\n2: hip\n")


def _labels(name: str, names: str | None = None) -> Callable[[Path], Parts]:
    def read(folder: Path) -> Parts:
        found = read_labels(folder / name, read_volume(folder / "ct.nii.gz"), None if names is None else folder / names)
        told = "\n".join(f"{label} {found.names[label]}" for label in sorted(found.names))
        return {VALUES: found.ids, GEOMETRY: text_part(told)}

    return read


LABELS = (
    Subject(
        "labels.nii.gz",
        _write_labelled,
        "labels.nii.gz",
        _labels("labels.nii.gz"),
        lambda data: 10,
        BINARY_HEADER,
        protected=EVERYTHING,
    ),
    Subject("labels.seg.nrrd", _write_labelled, "labels.seg.nrrd", _labels("labels.seg.nrrd"), NRRD_HEAD, TEXT_HEADER),
    Subject("label names", _write_labelled, "names.yaml", _labels("labels.nii.gz", "names.yaml")),
)


def _write_series(folder: Path) -> None:
    write_ct_series(folder / "series", phantom_hu()[2:14], FRAME)


def _odd_series(folder: Path, rng: np.random.Generator) -> str:
    """Files of a series are missing, doubled, of another kind, or not there."""
    series = folder / "series"
    names = sorted(series.iterdir())
    one = names[int(rng.integers(1, len(names) - 1))]
    what = int(rng.integers(5))
    if what == 0:
        one.unlink()
        return "a slice is missing"
    if what == 1:
        (series / "again.dcm").write_bytes(one.read_bytes())
        return "a slice stands twice"
    if what == 2:
        other = names[int(rng.integers(len(names)))]
        one.write_bytes(other.read_bytes())
        return "same" if other == one else "a slice is another one"
    if what == 3:
        one.write_bytes(rng.bytes(5000))
        return "a slice is noise"
    one.write_bytes(b"")
    return "a slice is empty"


def _write_enhanced(folder: Path) -> None:
    write_enhanced_ct(folder / "ct.dcm", phantom_hu(), FRAME, tuple(np.random.default_rng(0).permutation(SHAPE[0])))


SERIES = (
    Subject(
        "enhanced DICOM CT",
        _write_enhanced,
        "ct.dcm",
        lambda folder: volume_parts(folder / "ct.dcm"),
        dicom_header,
        TAGGED_HEADER,
    ),
    Subject(
        "DICOM CT series",
        _write_series,
        "series/0005.dcm",
        lambda folder: volume_parts(folder / "series"),
        dicom_header,
        TAGGED_HEADER,
        odd=_odd_series,
    ),
)


SUBJECTS: dict[str, Subject] = {one.name: one for one in (*VOLUMES, *LABELS, *SERIES, *XRAYS, *TABLES)}
