"""From stored grey values and a camera to the X-ray that is registered, alike for every kind of file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from roireg.data.measured import bounds_of, counting_pixels, mask_at
from roireg.data.preprocess import GreyScale, cut_out, preprocess, preprocess_pixels, size_within
from roireg.data.xray import Fact, Xray
from roireg.errors import InputError
from roireg.geometry.camera import Camera

LOOKED_AT, STATED = "by looking at the image", "by tags"


@dataclass(frozen=True, eq=False)
class Picture:
    """An X-ray as it is stored.

    Attributes:
        path: of its file.
        stored: grey values.
        camera: its detector.
        invalid: pixels of which the file says that they are no measurements, or None.
    """

    path: Path
    stored: Shaped[np.ndarray, "R C"]
    camera: Camera
    invalid: Bool[np.ndarray, "R C"] | None = None

    def as_xray(
        self,
        grey_scales: tuple[GreyScale, GreyScale | None],
        rig_from_camera: Float[Tensor, "4 4"],
        crop_px: int,
        size_px: int,
        facts: Sequence[Fact],
        warnings: Sequence[str],
    ) -> Xray:
        """The X-ray: cut to its measured pixels, cropped, shrunk, with the mask of pixels that count.

        Args:
            grey_scales: what values mean, and the opposite if that is assumed.
            rig_from_camera: where the camera is.
            crop_px: taken off each side.
            size_px: longer side of the result.
            facts, warnings: what is known so far.

        Raises:
            InputError: nothing is left, or the image is blank.
        """
        if self.stored.ndim != 2 or min(self.stored.shape) < 2:
            raise InputError(self.path, f"it has the shape {self.stored.shape}", "Give one grey image")
        if self.invalid is not None and self.invalid.all():
            what = "no pixel is a measurement, by its tags: all are padding or behind a shutter"
            raise InputError(self.path, what, "Correct the tags, or give a camera file and a picture without them")
        facts, warnings = list(facts), list(warnings)
        rows, columns = (slice(0, n) for n in self.stored.shape) if self.invalid is None else bounds_of(~self.invalid)
        rows, columns = (slice(one.start + crop_px, one.stop - crop_px) for one in (rows, columns))
        if rows.stop - rows.start < 2 or columns.stop - columns.start < 2:
            raise InputError(self.path, "the crop leaves nothing of the image", "Crop less")
        part, window = cut_out(self.stored, rows, columns, self.camera)
        stated = None if self.invalid is None else self.invalid[rows, columns]
        valid = counting_pixels(self.path, part, grey_scales[0].bone_bright, stated)
        if valid is not None:
            by = STATED if stated is not None and stated.any() else LOOKED_AT
            facts.append(Fact("measured pixels", f"{valid.mean():.0%} of the image", by))
            warnings.append(f"only {valid.mean():.0%} of the image are measurements, {by}: the rest does not count")
            part, window = cut_out(part, *bounds_of(valid), window)
            valid = valid[bounds_of(valid)]
        size = size_within(part.shape, size_px)
        grey_scale, other = grey_scales
        image, camera = preprocess(self.path, part, window, grey_scale, size, valid)
        return Xray(
            name=self.path.name,
            image=image,
            camera=camera,
            rig_from_camera=rig_from_camera,
            stored_camera=self.camera,
            mask=mask_at(valid, size),
            other_image=None if other is None else preprocess_pixels(self.path, part, other, size, valid),
            facts=tuple(facts),
            warnings=tuple(warnings),
        )
