"""The results published in the paper (WSReg, MICCAI 2025), all on DeepFluoro, copied from its tables and its text."""

from dataclasses import dataclass

NONE = "–"


@dataclass(frozen=True)
class PaperErrors:
    """Cells of a row: mTRE and TE in mm, RE in degrees (mean ± SD), SRR: fraction of X-rays with mTRE < 1 mm."""

    mtre: str = NONE
    srr: str = NONE
    re: str = NONE
    te: str = NONE


NOT_IN_PAPER = PaperErrors()

# Table 1, by method.
PAPER_TABLE1 = {
    "diffdrr": PaperErrors("25.08 ± 24.01", "26%", "10.8 ± 9.6", "72.5 ± 63.2"),
    "psss": PaperErrors("4.40 ± 4.63", "26%", "1.8 ± 2.0", "10.1 ± 10.0"),
    "diffpose": PaperErrors("1.01 ± 3.24", "83%", "0.4 ± 1.3", "2.1 ± 5.8"),
    "wsreg": PaperErrors("0.67 ± 1.34", "87%", "0.2 ± 0.5", "1.6 ± 2.9"),
}
# Given in section 3.2 only: it compares MedSAM with the U-Net "under the same pose initialization".
PAPER_TEXT = {
    "wsreg": PaperErrors("0.74 ± 1.97", "85%", "0.25 ± 0.50", "1.64 ± 2.96"),
    "wsreg-medsam": PaperErrors("0.95 ± 3.01", "84%", "0.27 ± 0.61", "3.15 ± 1.70"),
}
# Table 2: Dice (mean ± SD) by network and by image, X-ray or DRR.
PAPER_TABLE2 = {
    ("unet", "xray"): "0.81 ± 0.07",
    ("unet", "drr"): "0.80 ± 0.07",
    ("medsam", "xray"): "0.85 ± 0.07",
    ("medsam", "drr"): "0.85 ± 0.06",
}
# Table 3: (without the ROI term, with it), by similarity.
PAPER_TABLE3 = {
    "local_ncc": (
        PaperErrors("2.83 ± 6.33", "72%", "1.1 ± 2.4", "6.9 ± 14.3"),
        PaperErrors("2.15 ± 6.38", "78%", "0.7 ± 1.9", "5.4 ± 13.3"),
    ),
    "global_ncc": (
        PaperErrors("4.39 ± 4.71", "24%", "1.9 ± 2.0", "10.1 ± 10.1"),
        PaperErrors("3.51 ± 3.68", "27%", "1.5 ± 1.5", "8.5 ± 9.0"),
    ),
    "gradient_ncc": (
        PaperErrors("11.12 ± 7.35", "4%", "4.0 ± 2.2", "46.8 ± 25.6"),
        PaperErrors("9.95 ± 7.39", "9%", "3.5 ± 2.3", "40.1 ± 28.2"),
    ),
    "ssim": (
        PaperErrors("13.62 ± 8.63", "2%", "5.6 ± 3.2", "48.7 ± 26.2"),
        PaperErrors("5.55 ± 5.14", "10%", "2.1 ± 1.7", "14.7 ± 13.3"),
    ),
    "mse": (
        PaperErrors("9.84 ± 6.46", "0%", "4.2 ± 2.1", "31.1 ± 19.9"),
        PaperErrors("9.23 ± 6.12", "1%", "3.9 ± 2.2", "29.7 ± 19.1"),
    ),
    "mae": (
        PaperErrors("10.38 ± 6.61", "1%", "4.3 ± 2.2", "34.8 ± 21.2"),
        PaperErrors("9.85 ± 5.92", "1%", "4.1 ± 2.0", "32.3 ± 19.3"),
    ),
    "psnr": (
        PaperErrors("10.21 ± 6.50", "0%", "4.3 ± 2.3", "33.9 ± 20.2"),
        PaperErrors("10.13 ± 6.75", "0%", "4.2 ± 2.2", "33.9 ± 21.3"),
    ),
}

MTRE_NOTE = (
    'It is not known which error the paper\'s "mTRE" is. Its definition, "average Euclidean distance between ground '
    'truth (GT) and estimated 3D landmark projections", fits mpd. But for its success rate it cites DiffPose, whose '
    "released code reports 0.194 times mrpd, about a fifth of it (github.com/eigenvivek/DiffPose, issue 27). This "
    "table gives both errors, and the SRR by both, beside the paper's. mpd: mean distance, on the detector plane, "
    "between landmarks projected under the true and the estimated pose. mrpd: mean 3D distance of the same "
    "projections, each on the detector of its own pose."
)
RE_TE_NOTE = (
    "Rotation: geodesic angle. Translation: displacement of the isocentre in the camera frame. The paper's RE and TE "
    "are norms of differences of rotation and translation vectors, whose origin it does not give: similar measures, "
    "not the same."
)
TEST_NOTE = (
    "p: two-sided sign-flip test over specimens (exact up to 16 specimens) of each specimen's median paired difference "
    "in mpd; in brackets, the smallest p that can be reached with that number of specimens. Not corrected for the "
    "number of rows."
)
INTERVAL_NOTE = (
    "Intervals: 95% bootstrap over specimens. With fewer than about ten specimens they are too narrow; an interval "
    "without width, such as 100% to 100%, means that all specimens of this run had the same value, not that others "
    "would."
)
COMPARABLE_NOTE = "comparable only with a run on DeepFluoro, and even then not exactly (docs/paper-gaps.md)."
