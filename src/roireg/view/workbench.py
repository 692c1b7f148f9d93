"""The workbench: what is open now, and the registration that is running. Safe to use from several threads."""

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from roireg.data.preprocess import SIZE_PX
from roireg.errors import InputError, one_line
from roireg.view.hand import Gesture, Wish, applied
from roireg.view.registering import JOBS, found_by, with_result
from roireg.view.sources import CtSource, XraySource, open_ct, open_xray
from roireg.view.state import Found, State, at_row, rig_pose_of, with_patient, with_pose
from roireg.view.study import Study
from roireg.view.threads import compiled_code


class Stopped(Exception):
    """Raised within a registration that is to stop."""


@dataclass
class Job:
    """A registration that runs, or has ended.

    Attributes:
        kind: a key of `JOBS`.
        lines: messages about its progress.
        running: whether it still runs.
        stopping: whether it was asked to stop, which it does before its next round.
        error: what went wrong, in one line; empty if nothing did.
    """

    kind: str
    lines: list[str] = field(default_factory=list)
    running: bool = True
    stopping: bool = False
    error: str = ""


class Workbench:
    """What is open, and who wants to know of changes.

    Attributes:
        state: what is open; replaced as a whole.
        version: grows with every change.
        revision: grows with every change but a hand's movement.
        job: the last registration, or None.
        folder: private folder of this session, for uploads.
        out: folder for results that the command line named, or None.
    """

    def __init__(self, folder: Path, size_px: int = SIZE_PX, out: Path | None = None) -> None:
        self.state, self.version, self.revision = State(), 0, 0
        self.folder, self.size_px, self.out = folder, size_px, out
        self.job: Job | None = None
        self._gesture: Gesture | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()
        self._listeners: set[Callable[[], None]] = set()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call a function after each change, from whichever thread; returns the function that ends it."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def told(self, moving: bool = False) -> None:
        """Count a change, of a hand's movement or another, and tell those who listen."""
        with self._lock:
            self.version += 1
            self.revision += not moving
        for listener in list(self._listeners):
            listener()

    def change(self, function: Callable[[State], State]) -> State:
        """Replace the state by what a quick function makes of it."""
        with self._lock:
            self.state = function(self.state)
            self._gesture = None
        self.told()
        return self.state

    def wish(self, wish: Wish) -> None:
        """Do what the page asks of the pose.

        Raises:
            InputError: see `applied`.
        """
        with self._lock:
            before, self._gesture = self._gesture, None
            self.state, self._gesture = applied(self.state, wish, before)
            moving = self._gesture is not None and self._gesture is before
        self.told(moving)

    def open_ct(self, source: CtSource) -> None:
        """Open a CT in place of the present one.

        Raises:
            InputError: it cannot be read.
        """
        self._check_files()
        patient = open_ct(source)
        self.change(lambda state: with_patient(state, source, patient))

    def open_xray(self, source: XraySource, place: int | None = None) -> None:
        """Open an X-ray beside the others, or in the place of one.

        Raises:
            InputError: it cannot be read.
        """
        self._check_files()
        view = open_xray(source, self.private_folder(), self.size_px)

        def opened(state: State) -> State:
            views = list(state.views)
            if place is None:
                views.append(view)
            else:
                state.view(place)
                views[place] = view
            return replace(state, views=tuple(views), found=_without_results(state))

        self.change(opened)

    def close_xray(self, place: int) -> None:
        """Close an X-ray.

        Raises:
            InputError: it is not open.
        """
        self._check_files()

        def closed(state: State) -> State:
            gone = state.view(place)
            views = tuple(view for view in state.views if view is not gone)
            return replace(state, views=views, found=_without_results(state), points=())

        self.change(closed)

    def private_folder(self) -> Path:
        """A new empty folder in the session's own, for one file or for those of one series."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def start(self, kind: str) -> Job:
        """Start a registration in a thread of its own.

        Raises:
            InputError: one is running, or the CT or an X-ray is missing.
        """
        with self._lock:
            self._check_idle()
            state = self.state
            _, _ = state.known_patient, state.view(0)
            job = self.job = Job(kind)
        self._thread = threading.Thread(target=self._run, args=(job, state), daemon=True, name=f"register: {kind}")
        self._thread.start()
        self.told()
        return job

    def stop(self) -> None:
        """Ask the registration to stop before its next round."""
        if self.job is not None and self.job.running:
            self.job.stopping = True
            self.told()

    def close(self, patience_s: float) -> None:
        """Stop the registration, and wait for its round to end: compiled code must not run when the process ends."""
        self.stop()
        if self._thread is not None:
            self._thread.join(patience_s)

    def _run(self, job: Job, state: State) -> None:
        def report(line: str) -> None:
            if job.stopping:
                raise Stopped
            job.lines.append(line)
            self.told()

        try:
            with compiled_code():
                result = JOBS[job.kind](state, report)
            self.change(lambda now: with_result(now, found_by(job.kind, result)))
        except Stopped:
            job.lines.append("stopped")
        except InputError as error:
            job.error = str(error)
        except MemoryError:
            job.error = "there is not enough memory. Use a smaller image, or close other programs"
        except Exception as error:
            job.error = one_line(f"unexpected {type(error).__name__}: {error}")
            raise
        finally:
            job.running = False
            self.told()

    def open_study(self, study: Study) -> None:
        """Open a workflow's results, at their worst X-ray."""
        self.change(lambda state: at_row(replace(state, study=study), study, 0))

    def step_to(self, place: int) -> None:
        """Show another X-ray of the workflow's results.

        Raises:
            InputError: no results are open, or they have no such row.
        """
        self._check_idle()
        study = self.state.study
        if study is None or not 0 <= place < len(study.rows):
            raise InputError(f"row {place + 1}", "no results with such a row are open", "Start `roireg view` with them")
        self.change(lambda state: at_row(state, study, place))

    def _check_files(self) -> None:
        self._check_idle()
        if self.state.study is not None:
            raise InputError("files", "a workflow's results are open", "Start `roireg view` with the files instead")

    def _check_idle(self) -> None:
        if self.job is not None and self.job.running:
            raise InputError("registration", "one is running", "Stop it, or wait for it to end")

    def go_to(self, number: int, pose: Float[Tensor, "4 4"]) -> None:
        """Move to a pose `volume_from_camera` (mm) of an X-ray."""
        self.change(lambda state: with_pose(state, rig_pose_of(state, number, pose)))


def _without_results(state: State) -> tuple[Found, ...]:
    """The list of poses, whose results are of other X-rays now."""
    return tuple(replace(one, registration=None) for one in state.found)
