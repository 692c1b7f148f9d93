"""What an encoder minimises: GEO, ROI Dice, image similarity (paper, section 2.3); reconstruction for PSSS-style."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from roma import rotmat_to_rotvec
from torch import Tensor
from torch.nn.functional import mse_loss

from roireg.data.images import scaled
from roireg.data.volume import Volume
from roireg.drr import render
from roireg.drr.rois import roi_channels
from roireg.encode.network import EncoderOutput, robustly_scaled
from roireg.geometry.camera import Camera
from roireg.geometry.se3 import invert, se3_log, translation
from roireg.metrics.similarity import EPS as EPS_OF_NCC
from roireg.metrics.similarity import dice, similarity
from roireg.segment.model import Segmenter, roi_numbers

# Under the square roots, in mm^2 and (rad, mm)^2: DiffPose's, so that the gradient at the truth is zero and not NaN.
EPS = 1e-4
NO_SIMILARITY = "none"
OF_CT, DRAWN = "ct", "drawn"


@dataclass(frozen=True)
class EncoderLoss:
    """Weights of the terms, and how images are compared.

    Attributes:
        geodesic: the paper's beta_1, on GEO.
        roi: the paper's beta_2, on one minus Dice; 0 leaves it out.
        similarity: a key of `roireg.metrics.similarity.SIMILARITIES`, or none.
        image_size_px: height and width of the images that are rendered for the comparison.
        rendered_per_batch: so many examples of a batch are rendered, which estimates the mean over all of them.
        images_from: the terms that render join after this share of the training.
        reconstruction: on the mean squared error of the decoder's image.
        latent: on the mean square of the tokens.
        continued: images for the comparison show tissue beyond the CT's ends.
        bone_contrast: of these images: that of the `ct`, or the `drawn` one of the image that the network saw.
        ncc_epsilon: added to the variances of images in [0, 1] in a similarity that is an NCC.
    """

    geodesic: float
    roi: float
    similarity: str
    image_size_px: int
    rendered_per_batch: int
    images_from: float
    reconstruction: float
    latent: float
    continued: bool = True
    bone_contrast: str = OF_CT
    ncc_epsilon: float = EPS_OF_NCC


def geodesic_loss(
    truth: Float[Tensor, "B 4 4"],
    estimate: Float[Tensor, "B 4 4"],
    center_mm: Float[Tensor, "3"],
    focal_mm: float,
) -> Float[Tensor, "B"]:
    r"""The paper's GEO, as DiffPose computes it (double geodesic plus log geodesic).

    $$\sqrt{(\tfrac f2 \theta)^2 + \|\Delta t\|^2 + \epsilon} + \sqrt{\|\mathrm{Log}(T^{-1} \hat T)\|^2 + \epsilon}$$

    with theta the angle of $R^\top \hat R$, and the translations those of the isocentre in the camera frame, so that
    turning the patient about the isocentre costs nothing but the turn.

    Args:
        truth, estimate: `volume_from_camera`, mm.
        center_mm: the isocentre, volume frame.
        focal_mm: f, from source to detector.

    Returns:
        mm; finite with a finite gradient at the truth and half a turn from it.
    """
    center = translation(center_mm)
    a, b = invert(truth) @ center, invert(estimate) @ center
    turn = rotmat_to_rotvec(a[:, :3, :3].transpose(1, 2) @ b[:, :3, :3])
    shift = a[:, :3, 3] - b[:, :3, 3]
    double = ((focal_mm / 2) ** 2 * turn.square().sum(-1) + shift.square().sum(-1) + EPS).sqrt()
    log = (se3_log(invert(a) @ b).square().sum(-1) + EPS).sqrt()
    return double + log


@dataclass(frozen=True, eq=False)
class ImageTerms:
    """The terms that look at rendered images.

    Attributes:
        volume: what is rendered, attenuation in 1/mm.
        camera: at the size at which images are compared.
        step_mm: sampling of the renderer, or None for its default.
        segmenter: frozen; it has not seen this specimen. None without a ROI term.
        bone: what a gain adds to the volume; None where all images are of the CT's own contrast.
    """

    volume: Volume
    camera: Camera
    step_mm: float | None
    segmenter: Segmenter | None
    bone: Volume | None = None

    def __call__(
        self,
        truth: Float[Tensor, "B 4 4"],
        estimate: Float[Tensor, "B 4 4"],
        settings: EncoderLoss,
        gains: Float[Tensor, "B"] | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """`similarity` and `dice` of the DRRs at both poses, means over the batch, where the settings ask for them.

        As in Fig. 2: the fixed ROIs are the segmenter's most probable ones in the DRR at the true pose, the moving ones
        its probabilities in the DRR at the estimated pose. `gains` say how much of `bone` both DRRs of an example
        have in addition.
        """
        terms = {}
        with torch.no_grad():
            fixed = self._image(truth, gains)
        moving = self._image(estimate, gains)
        if settings.similarity != NO_SIMILARITY:
            measure = similarity(settings.similarity, settings.ncc_epsilon)
            terms["similarity"] = measure(fixed[:, None], moving[:, None]).mean()
        if settings.roi > 0:
            if self.segmenter is None:
                raise ValueError("the loss has a ROI term, and there is no segmenter")
            with torch.no_grad():
                masks = roi_channels(roi_numbers(self.segmenter.probabilities(fixed)), len(self.segmenter.rois))
            terms["dice"] = dice(masks, self.segmenter.probabilities(moving)).mean()
        return terms

    def _image(self, pose: Float[Tensor, "B 4 4"], gains: Float[Tensor, "B"] | None) -> Float[Tensor, "B H W"]:
        integrals = render(self.volume, self.camera, pose, self.step_mm)
        if self.bone is not None and gains is not None:
            more = render(self.bone, self.camera, pose, self.step_mm)
            integrals = integrals + gains.to(more)[:, None, None] * more
        return scaled(integrals)


def total(terms: dict[str, Float[Tensor, ""]], settings: EncoderLoss) -> Float[Tensor, ""]:
    r"""$\beta_1\,\mathrm{GEO} + \beta_2 (1 - \mathrm{Dice}) + (1 - \mathrm{NCC})$, and the autoencoder's terms."""
    loss = settings.geodesic * terms["geodesic"]
    if "similarity" in terms:
        loss = loss + 1 - terms["similarity"]
    if "dice" in terms:
        loss = loss + settings.roi * (1 - terms["dice"])
    if "reconstruction" in terms:
        loss = loss + settings.reconstruction * terms["reconstruction"] + settings.latent * terms["latent"]
    return loss


def reconstruction_terms(output: EncoderOutput, clean: Float[Tensor, "B H W"]) -> dict[str, Float[Tensor, ""]]:
    """Squared error of the decoder's images against the clean ones, and mean square of the tokens, if there are any."""
    if output.reconstruction is None or output.latent is None:
        return {}
    target = robustly_scaled(clean, output.reconstruction.shape[-1])
    return {
        "reconstruction": mse_loss(output.reconstruction, target),
        "latent": output.latent.square().mean(),
    }
