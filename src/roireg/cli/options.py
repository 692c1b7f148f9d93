"""Options of `roireg register` that belong together, and what they stand for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from roireg.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from roireg.data.patient import Patient
    from roireg.data.xray import Xray
    from roireg.register.method import MethodSettings


def refuse_together(option: str, others: Mapping[str, object]) -> None:
    """Refuse options that have no effect beside another one.

    Args:
        option: the one that was given.
        others: what was given for each of the others; None, False, 0 or nothing in it if it was not.

    Raises:
        InputError: one of them was given.
    """
    for name, value in others.items():
        if value:
            raise InputError(name, f"it has no effect together with {option}", "Leave out one of the two")


@dataclass(frozen=True)
class StartFiles:
    """Where a start may come from: a pose.json, or an encoder."""

    initial: Path | None
    encoder: Path | None

    def rig_pose(self, xray: "Xray") -> "Float[Tensor, '4 4'] | None":
        """The start `volume_from_rig` (mm) for an X-ray; None if neither was given.

        Raises:
            InputError: both are given, or a file cannot be used.
        """
        from roireg.register.starts import initial_rig_pose

        return initial_rig_pose(xray, self.initial, self.encoder)


@dataclass(frozen=True)
class MethodOptions:
    """A method of the configuration, or none, and what changes it."""

    name: str | None
    config: Path | None
    exclude: Sequence[str] = ()
    segmenter: Path | None = None
    roi: Sequence[str] = ()

    def check(self) -> None:
        """Check what needs neither the CT nor an X-ray: the configuration and the method's name.

        Raises:
            InputError: the configuration is wrong or has no such method, or has no effect without --method.
        """
        from roireg.workflow.named_method import check_name

        if self.name is not None:
            check_name(self.name, self.config)
        elif self.config is not None:
            raise InputError("--config", "it has no effect without --method", "Give the name of one of its methods")

    def method(
        self, patient: "Patient", xrays: Sequence["Xray"], start: StartFiles
    ) -> "tuple[MethodSettings, Float[Tensor, '4 4'] | None]":
        """The method, and the start `volume_from_rig` (mm) that replaces its own, if one was given.

        Raises:
            InputError: the method, a label or a file is unknown or cannot be used.
        """
        from roireg.register.method import search_method, with_exclusion
        from roireg.workflow.named_method import method_by_name

        if self.exclude:
            patient.label_mask(self.exclude, "--exclude")
        if self.name is None:
            return search_method(self.exclude), start.rig_pose(xrays[0])
        named = method_by_name(self.name, self.config, xrays, start.encoder, self.segmenter, self.roi)
        return with_exclusion(named, [*self.exclude] or None), StartFiles(start.initial, None).rig_pose(xrays[0])
