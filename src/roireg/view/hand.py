"""What the page asks of the pose: a gesture's movement, typed numbers, a preset, a pivot, undo and redo."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from torch import Tensor

from roireg.data.patient import expected_rig_pose
from roireg.errors import InputError
from roireg.geometry.camera import Camera
from roireg.view.moves import deeper, in_camera, point_under, shifted, turned
from roireg.view.pose_numbers import PoseNumbers, numbers_of, pose_of
from roireg.view.state import State, redone, rig_pose_of, undone, with_pose

Angle = Annotated[float, Field(ge=-360, le=360, allow_inf_nan=False)]
Length = Annotated[float, Field(ge=-1e4, le=1e4, allow_inf_nan=False)]
# Primary and secondary angle of the presets; the roll is 0.
PRESETS = {"pa": (0.0, 0.0), "ap": (180.0, 0.0), "left": (90.0, 0.0), "right": (-90.0, 0.0)}


class _Wish(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Move(_Wish):
    """A movement since a gesture began, in the picture of one X-ray.

    `amount` is, by the kind: pixels across and down; degrees to the right, down and clockwise; mm towards the detector.
    """

    type: Literal["move"]
    gesture: int
    view: int
    kind: Literal["shift", "turn", "deeper"]
    amount: tuple[Length, Length, Length]


class Numbers(_Wish):
    """Numbers that were typed: the pose of an X-ray."""

    type: Literal["numbers"]
    view: int
    primary_deg: Angle
    secondary_deg: Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
    roll_deg: Angle
    across_mm: Length
    down_mm: Length
    depth_mm: Length


class Preset(_Wish):
    """A view of the patient by its name; `stated` is what the device states."""

    type: Literal["preset"]
    view: int
    name: Literal["pa", "ap", "left", "right", "stated"]


class Pivot(_Wish):
    """A click that sets the pivot at a pixel, at the pivot's depth; without pixel it is the patient's centre again."""

    type: Literal["pivot"]
    view: int
    pixel: tuple[Length, Length] | None


class Back(_Wish):
    """Undo or redo."""

    type: Literal["undo", "redo"]


class Show(_Wish):
    """Go to a pose of the list."""

    type: Literal["show"]
    found: int


Wish = Annotated[Move | Numbers | Preset | Pivot | Back | Show, Field(discriminator="type")]
WISH: TypeAdapter[Move | Numbers | Preset | Pivot | Back | Show] = TypeAdapter(Wish)


@dataclass(frozen=True, eq=False)
class Gesture:
    """A gesture in progress: its number, and the pose `volume_from_rig` (mm) at which it began."""

    number: int
    rig_pose: Float[Tensor, "4 4"]


def applied(state: State, wish: Wish, gesture: Gesture | None) -> tuple[State, Gesture | None]:
    """The state after a wish, and the gesture in progress.

    A gesture's movement counts from where it began. So no message of it is needed but the last, and undo takes all of
    it back.

    Raises:
        InputError: an X-ray, the CT or a pose is not there.
    """
    if isinstance(wish, Back):
        return (undone(state) if wish.type == "undo" else redone(state)), None
    if isinstance(wish, Show):
        if not 0 <= wish.found < len(state.found):
            raise InputError(f"pose {wish.found + 1}", "there is none in the list", "Choose another")
        return with_pose(state, state.found[wish.found].rig_pose), None
    patient, camera = state.known_patient, state.view(wish.view).shown.camera
    if isinstance(wish, Move):
        if gesture is None or gesture.number != wish.gesture:
            gesture = Gesture(wish.gesture, state.rig_pose)
            state = with_pose(state, state.rig_pose)
        begun = gesture.rig_pose @ state.view(wish.view).shown.rig_from_camera
        moved = MOVES[wish.kind](begun, camera, state.pivot_mm, wish.amount)
        return replace(state, rig_pose=rig_pose_of(state, wish.view, moved)), gesture
    if isinstance(wish, Pivot):
        if wish.pixel is None:
            return replace(state, pivot_mm=patient.center_mm), gesture
        pose = state.pose(wish.view)
        depth_mm = float(in_camera(pose, state.pivot_mm)[2])
        return replace(state, pivot_mm=point_under(pose, camera, wish.pixel, depth_mm)), None
    if isinstance(wish, Preset) and wish.name == "stated":
        return with_pose(state, expected_rig_pose(patient)), None
    if isinstance(wish, Preset):
        here = numbers_of(state.pose(wish.view), patient.center_mm)
        primary, secondary = PRESETS[wish.name]
        numbers = replace(here, primary_deg=primary, secondary_deg=secondary, roll_deg=0.0)
    else:
        numbers = PoseNumbers(**wish.model_dump(exclude={"type", "view"}))
    return with_pose(state, rig_pose_of(state, wish.view, pose_of(numbers, patient.center_mm))), None


_Amount = tuple[float, float, float]
MOVES: dict[str, Callable[[Tensor, Camera, Tensor, _Amount], Tensor]] = {
    "shift": lambda pose, camera, pivot, amount: shifted(pose, camera, pivot, amount[0], amount[1]),
    "turn": turned,
    "deeper": lambda pose, camera, pivot, amount: deeper(pose, camera, pivot, amount[0]),
}
