"""`roireg register --frames`: a sequence, frame by frame, each from where the one before it ended."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import track

from roireg.cli.common import Files, err, out, warn
from roireg.cli.options import MethodOptions, StartFiles

if TYPE_CHECKING:
    from jaxtyping import Float
    from PIL import Image
    from torch import Tensor

    from roireg.register.sequence import Frame
    from roireg.report.sequence_files import Moment

FRAME_MS = 150


class Sequence:
    """The frames that were asked for, of one view or of several.

    Attributes:
        numbers: of the frames.
    """

    def __init__(self, files: Files, frames: str, size_px: int) -> None:
        """Find the files, and read the last frame, so that one that is missing is told before the work.

        Raises:
            InputError: a frame is missing, or a file cannot be read.
        """
        from roireg.data.readers.frames import frame_files, frame_range

        chosen = frame_range(frames)
        self.numbers = chosen.numbers
        self._files, self._size_px = files, size_px
        self._views = [frame_files(path, chosen) for path in files.xray]
        self.read(self.numbers[-1])

    def read(self, number: int, told: bool = False) -> "Frame":
        """A frame; with what looks odd of its X-rays, if `told`."""
        from roireg.register.sequence import Frame

        index = number - self.numbers[0]
        xrays = self._files.frame_xrays([view[index] for view in self._views], self._size_px)
        for xray in xrays if told else ():
            warn(xray.name, xray.warnings)
        return Frame(number, xrays)

    def frames(self) -> Iterator["Frame"]:
        """One after another, with the time left."""
        for number in track(self.numbers, "frames", console=err, transient=True):
            yield self.read(number, told=number == self.numbers[0])


def sequence(
    files: Files, frames: str, size: int, options: MethodOptions, start: StartFiles, seed: int, output: Path
) -> bool:
    """Register the whole CT to each frame; whether a frame failed."""
    from roireg.figures.overlay import checkerboard
    from roireg.register.sequence import register_frames
    from roireg.report.result_files import write_result
    from roireg.report.sequence_files import frame_folder, moment_of, write_sequence

    asked = Sequence(files, frames, size)
    patient = files.patient(None)
    method, initial = options.method(patient, asked.read(asked.numbers[0]).xrays, start)
    moments: list[Moment] = []
    pictures: list[list[Image.Image]] = []
    for frame, result in register_frames(patient, asked.frames(), method, seed, initial):
        write_result(frame_folder(output, frame.number), patient, result)
        moments.append(moment_of(frame.number, patient, result))
        pictures.append([checkerboard(patient, one.xray, one.pose) for one in result.xrays])
        write_sequence(output, moments)
        _print_frame(moments[-1:])
    return _finish(output, moments, pictures)


def bone_sequence(
    files: Files, names: list[str], frames: str, size: int, start: StartFiles, seed: int, output: Path
) -> bool:
    """Register bones of the CT to each frame; whether one failed in a frame."""
    from roireg.cli.bones import SIZE_PX, VOXEL_MM, searched_start
    from roireg.figures.bone_overlay import outlined
    from roireg.register.sequence import register_bone_frames
    from roireg.report.bone_files import write_bones
    from roireg.report.sequence_files import frame_folder, moments_of_bones, write_sequence

    asked, small = Sequence(files, frames, SIZE_PX), Sequence(files, frames, size)
    patient = files.patient(VOXEL_MM)

    def begin(frame: "Frame") -> "Float[Tensor, '4 4']":
        given = start.rig_pose(frame.xrays[0])
        if given is not None:
            return given
        return searched_start(names, lambda: files.patient(None), lambda: [*small.read(frame.number).xrays], seed)

    moments: list[Moment] = []
    pictures: list[list[Image.Image]] = []
    for frame, results in register_bone_frames(patient, asked.frames(), names, begin, seed):
        write_bones(frame_folder(output, frame.number), patient, results)
        new = moments_of_bones(frame.number, results)
        moments += new
        bones = [one.bone for one in results]
        pictures.append(
            [outlined(bones, xray, [one.views[k].pose for one in results]) for k, xray in enumerate(frame.xrays)]
        )
        write_sequence(output, moments)
        _print_frame(new)
    return _finish(output, moments, pictures)


def _print_frame(moments: "list[Moment]") -> None:
    from roireg.cli.printing import COLOURS

    for one in moments:
        agree = ", ".join(f"NCC {view.ncc:.2f}, predicted sd {view.spread.projection_mm:.2f} mm" for view in one.views)
        out.print(f"frame {one.frame}: [{COLOURS[one.grade]}]{one.grade}[/] ", end="")
        out.print(f"{one.body}, {agree}", markup=False, soft_wrap=True)


def _finish(output: Path, moments: "list[Moment]", pictures: "list[list[Image.Image]]") -> bool:
    """Write an animation of each view, and say how many frames have which verdict."""
    from roireg.cli.printing import COLOURS
    from roireg.figures.overlay import write_animation

    names = ["sequence.gif"] if len(pictures[0]) == 1 else [f"sequence-{k + 1}.gif" for k in range(len(pictures[0]))]
    for name, shown in zip(names, zip(*pictures, strict=True), strict=True):
        write_animation(output / name, shown, [FRAME_MS] * len(shown))
    grades = [one.grade for one in moments]
    counts = ", ".join(f"{grades.count(grade)} {grade}" for grade in COLOURS)
    out.print(f"{counts}; {output}/: poses.csv, motion.png, {', '.join(names)}, frame-*/", markup=False)
    return "failed" in grades
