"""DICOM files: read with or without preamble, and pixels of every encoding."""

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import Shaped
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from roireg.data.readers.dicom_header import AGAIN, READ_ERRORS, Header, source_of, tag_of
from roireg.data.readers.gate import brief, check_expansion, check_regular, require_memory
from roireg.data.readers.grid import WORKING_BYTES_PER_VOXEL
from roireg.data.readers.isolated import call_apart
from roireg.errors import InputError

PIXEL_TAGS = ("FloatPixelData", "DoubleFloatPixelData", "PixelData")
# From here on stand padding and signatures, behind the pixels.
TRAILING_GROUP = 0xFFFA
# Files are filled up with zeros to a multiple of this, by disks and tapes.
BLOCK_BYTES = 512
# Many frames of grey values in one file, whatever else it was.
MULTI_FRAME_CAPTURE = UID("1.2.840.10008.5.1.4.1.1.7.3")


class _Clipped(io.BufferedReader):
    """A file of which no more is asked for than it holds: lengths in damaged headers go up to 4 GB."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self._size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


def read_dicom(path: Path, pixels: bool = True) -> Dataset:
    """A DICOM file, also one without preamble.

    Raises:
        InputError: it is none, or is damaged.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            start = file.read(132)
        preamble = start[128:132] == b"DICM"
        with _Clipped(path) as clipped:
            dataset: Dataset = pydicom.dcmread(clipped, force=not preamble, stop_before_pixels=not pixels)
        if not preamble:
            _set_syntax(path, dataset)
        dataset.get("Modality")
    except READ_ERRORS as error:
        raise InputError(path, f"it is damaged, or no DICOM file ({brief(error)})", AGAIN) from None
    if len(dataset) == 0:
        raise InputError(path, "it is no DICOM file, or only its first bytes are there", AGAIN)
    return dataset


def _set_syntax(path: Path, dataset: Dataset) -> None:
    """Of files that begin with their first element: without group 2, that element's type tells the transfer syntax."""
    if "TransferSyntaxUID" not in getattr(dataset, "file_meta", {}):
        with path.open("rb") as file:
            explicit = file.read(6)[4:6].isalpha()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian


def pixel_frames(header: Header, frames: Sequence[int] | None = None) -> Shaped[np.ndarray, "F R C"]:
    """Frames of grey values as they are stored.

    JPEG in all its kinds is decoded by GDCM in a process of its own.

    Args:
        header: of the file, read with its pixels.
        frames: which ones; None for all.

    Raises:
        InputError: it is in colour, has no pixels or too few, or cannot be decoded.
    """
    path, dataset = header.path, header.dataset
    samples = header.number("SamplesPerPixel", (1, 4))
    if samples not in (None, 1.0):
        raise InputError(path, "it is a colour image", "Give the X-ray itself, not a photo or a screenshot of it")
    if header.word("PhotometricInterpretation") == "PALETTE COLOR":
        raise InputError(path, "it is a colour image (by a palette)", "Export grey values")
    if not any(keyword in dataset for keyword in PIXEL_TAGS):
        raise InputError(path, "it has no pixels", "Give the image itself, not its header or a report")
    rows, columns = (
        int(header.number(keyword, (1, 65535)) or _missing(path, keyword)) for keyword in ("Rows", "Columns")
    )
    bits = int(header.number("BitsAllocated", (1, 64)) or _missing(path, "BitsAllocated"))
    if bits == 1:
        raise InputError(path, "a pixel is one bit", "Give the X-ray itself, not a mask or an overlay")
    count = rows * columns * header.frames
    require_memory(path, count * (bits // 8 + WORKING_BYTES_PER_VOXEL))
    syntax = _syntax(header)
    if not syntax.is_compressed and not syntax.is_deflated:
        check_expansion(path, "none", count * bits // 8)
        _check_end(header)
    if syntax.is_encapsulated and syntax != RLELossless:
        pixels = _decoded_apart(header)
    else:
        try:
            pixels = dataset.pixel_array
        except READ_ERRORS as error:
            told = brief(error)
            cut = "less than expected" in str(error) or "expected" in str(error)
            what = f"it is truncated ({told})" if cut else f"its pixels cannot be decoded ({told})"
            raise InputError(path, what, "Copy or export it again, or save it uncompressed") from None
    if pixels.size != count:
        raise InputError(path, "it holds another number of pixels than its tags say", AGAIN)
    stack = pixels.reshape(header.frames, rows, columns)
    return stack if frames is None else stack[list(frames)]


def _syntax(header: Header) -> UID:
    """The transfer syntax, one that pixels can have.

    Raises:
        InputError: it is none.
    """
    found = getattr(header.dataset, "file_meta", Dataset()).get("TransferSyntaxUID", ExplicitVRLittleEndian)
    if not isinstance(found, UID) or not found.is_transfer_syntax:
        raise InputError(f"{header.path}: {source_of('TransferSyntaxUID')}", f"it is {str(found)!r}", AGAIN)
    return found


def _check_end(header: Header) -> None:
    """Refuse a file in which something follows the pixels: they were moved.

    Raises:
        InputError: what follows is neither padding nor a signature.
    """
    last = max(header.dataset.keys(), default=BaseTag(0))
    keyword = next(one for one in PIXEL_TAGS if one in header.dataset)
    element = header.dataset.get_item(keyword)
    more = "something that is no part of the image follows its pixels"
    if last > tag_of(keyword):
        if last.group < TRAILING_GROUP:
            raise InputError(header.path, f"it is damaged: {more}", AGAIN)
        return
    if isinstance(element, RawDataElement):
        with header.path.open("rb") as file:
            file.seek(element.value_tell + element.length)
            rest = file.read()
            # Zeros make an odd number of bytes even, or fill a block; others are pixels that were moved there.
            filler = len(rest) <= element.length % 2 or file.tell() % BLOCK_BYTES == 0
            if rest.strip(b"\0") or not filler:
                raise InputError(header.path, f"it is damaged: {more}", AGAIN)


def _missing(path: Path, keyword: str) -> int:
    raise InputError(path, f"{source_of(keyword)} is missing", AGAIN)


def _decoded_apart(header: Header) -> Shaped[np.ndarray, "F R C"]:
    """Pixels of a compressed file, by GDCM in another process, from a copy that holds the pixels alone."""
    plain = Dataset()
    for keyword in (
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "NumberOfFrames",
        "PixelData",
    ):
        if keyword in header.dataset:
            plain[keyword] = header.dataset[keyword]
    plain.SOPClassUID, plain.SOPInstanceUID = MULTI_FRAME_CAPTURE, pydicom.uid.generate_uid(entropy_srcs=["roireg"])
    plain.file_meta = FileMetaDataset()
    plain.file_meta.TransferSyntaxUID = header.dataset.file_meta.TransferSyntaxUID
    remedy = "Copy or export it again, or save it uncompressed"
    with tempfile.TemporaryDirectory(prefix="roireg-") as folder:
        copy, result = Path(folder) / "pixels.dcm", Path(folder) / "pixels.npy"
        try:
            plain.save_as(copy, enforce_file_format=True)
        except READ_ERRORS as error:
            raise InputError(header.path, f"its pixels are damaged ({brief(error)})", remedy) from None
        call_apart(header.path, "roireg.data.readers.gdcm_pixels", "decode", [copy, result], remedy)
        return np.load(result, allow_pickle=False)
