"""Bones of a CT, registered to X-rays from a pose that is nearly right, and judged: one function for all callers."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from roireg.data.patient import Patient
from roireg.data.xray import Xray
from roireg.register.bone import Bone, bone_of
from roireg.register.bone_judgement import BoneResult, judged_bones
from roireg.register.bone_registration import BoneSettings, find_bones
from roireg.register.verdict import Grade


def register_bones(
    patient: Patient,
    xrays: Sequence[Xray],
    names: Sequence[str],
    start: Float[Tensor, "*K 4 4"],
    settings: BoneSettings | None = None,
    seed: int = 0,
) -> tuple[BoneResult, ...]:
    """The pose of each bone, all refined together; where one has failed, once more from farther away.

    Args:
        patient: the CT, at the resolution at which it is stored.
        xrays: one, or several of one rig, as large as they are stored or about 1000 pixels a side.
        names: labels, or several that move together, joined by `+`; for a CT without labels, which holds one bone
            alone, its name.
        start: `volume_from_rig` (mm), one for all bones or one for each.
        settings: how; the defaults if not given.
        seed: of the random poses.

    Raises:
        InputError: a label is unknown, or at the start no bone lies in an X-ray.
    """
    settings = BoneSettings() if settings is None else settings
    return registered([bone_of(patient, name, settings.end_margin_mm) for name in names], xrays, start, settings, seed)


def registered(
    bones: Sequence[Bone],
    xrays: Sequence[Xray],
    start: Float[Tensor, "*K 4 4"],
    settings: BoneSettings,
    seed: int = 0,
) -> tuple[BoneResult, ...]:
    """`register_bones` for bones that are known already, which in a large CT takes seconds.

    Raises:
        InputError: at the start no bone lies in an X-ray.
    """
    starts = start.expand(len(bones), 4, 4) if start.ndim == 2 else start
    prior = settings.prior(starts)
    results = judged_bones(find_bones(bones, xrays, starts, settings, seed), xrays, prior, settings)
    if all(one.verdict.grade is not Grade.FAILED for one in results):
        return results
    wider = settings.wider()
    again = judged_bones(find_bones(bones, xrays, starts, wider, seed), xrays, prior, wider)
    return max(results, again, key=_agreement)


def _agreement(results: Sequence[BoneResult]) -> float:
    """The NCC of the bone and X-ray that agree least."""
    return min(view.ncc for one in results for view in one.views)
