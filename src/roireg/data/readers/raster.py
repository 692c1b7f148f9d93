"""Grey values of PNG, TIFF and JPEG pictures, as they are meant: palettes, alpha, polarity and pages are heeded."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from roireg.data.readers.checksums import check_deflated, check_png
from roireg.data.readers.gate import brief, check_regular, require_memory
from roireg.errors import InputError

FORMATS = ("PNG", "TIFF", "JPEG")
GREY_SHARE = 0.02
PHOTOMETRIC, WHITE_IS_ZERO, ALREADY_TURNED = 262, 0, ("L", "1")
BYTES_PER_PIXEL = 40
AGAIN = "Export the X-ray again as 16-bit PNG, TIFF or DICOM"
# What Pillow raises on damaged files is not documented, and comes from all that it calls.
READ_ERRORS = (Exception,)


@dataclass(frozen=True, eq=False)
class Raster:
    """A picture's grey values, its pixels that are transparent (or None), and what was done to read them."""

    values: Shaped[np.ndarray, "R C"]
    invalid: Bool[np.ndarray, "R C"] | None
    notes: tuple[str, ...]


def read_raster(path: str | Path, frame: int = 0) -> Raster:
    """One page of a picture.

    Raises:
        InputError: it is no picture, is damaged, in colour or of one bit, or has no such page.
    """
    path = check_regular(path)
    check_png(path)
    try:
        # Sizes are held against free memory below.
        with warnings.catch_warnings(), Image.open(path, formats=FORMATS) as picture:
            warnings.simplefilter("ignore")
            return _page(path, picture, frame)
    except UnidentifiedImageError:
        what = "it is neither DICOM, PNG nor TIFF, or its header is damaged"
        raise InputError(path, what, "Export the X-ray as one of them") from None
    except InputError:
        raise
    except READ_ERRORS as error:
        raise InputError(path, f"it is damaged or truncated ({brief(error)})", AGAIN) from None


def _page(path: Path, picture: Image.Image, frame: int) -> Raster:
    pages = getattr(picture, "n_frames", 1)
    if not 0 <= frame < pages:
        what = f"it has {pages} page{'s' if pages > 1 else ''}"
        raise InputError(path, what, f"Give --frame 0 to {pages - 1}" if pages > 1 else "Give --frame 0")
    if pages > 1:
        picture.seek(frame)
    if isinstance(picture, TiffImageFile):
        check_deflated(path, picture)
    require_memory(path, picture.width * picture.height * BYTES_PER_PIXEL)
    if picture.mode == "1":
        raise InputError(path, "a pixel is one bit", "Give the X-ray itself, not a mask or a scan of a page")
    notes = [f"page {frame} of {pages}"] if pages > 1 else []
    turned = isinstance(picture, TiffImageFile) and picture.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO
    turned = turned and picture.mode not in ALREADY_TURNED
    if picture.mode in ("P", "PA"):
        notes.append("its palette was applied")
        picture = picture.convert("RGBA" if "transparency" in picture.info or picture.mode == "PA" else "RGB")
    values = np.asarray(picture)
    if values.ndim == 2:
        grey, invalid = values, None
    elif values.ndim == 3 and values.shape[2] == 2:
        grey, invalid = values[..., 0], values[..., 1] == 0
    elif values.ndim == 3 and values.shape[2] in (3, 4) and picture.mode != "CMYK":
        grey, invalid = _grey(path, values), values[..., 3] == 0 if values.shape[2] == 4 else None
    else:
        raise InputError(path, f"it is a picture of kind {picture.mode}", AGAIN)
    if turned:
        notes.append("its white is 0 (WhiteIsZero): values were turned round")
        grey = grey.max() + grey.min() - grey if grey.dtype.kind == "f" else np.iinfo(grey.dtype).max - grey
    if grey.dtype.kind == "f" and not np.isfinite(grey).all():
        raise InputError(path, "it holds NaN or infinite values", AGAIN)
    return Raster(grey, invalid if invalid is not None and invalid.any() else None, tuple(notes))


def _grey(path: Path, values: Shaped[np.ndarray, "R C K"]) -> Shaped[np.ndarray, "R C"]:
    channels = values[..., :3].astype(float)
    if np.ptp(channels, axis=-1).mean() > GREY_SHARE * 255:
        what = "it is a colour picture: a photo or a screenshot is no X-ray"
        raise InputError(path, what, "Export the X-ray itself as 16-bit PNG, TIFF or DICOM")
    return channels[..., 0]
