"""The server's routes: what the page asks for."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from roireg.data.writers.poses import read_pose
from roireg.errors import InputError, one_line
from roireg.files import write_error
from roireg.view.access import UPLOAD_LIMIT_BYTES, Guard
from roireg.view.geometry import camera_entries
from roireg.view.points import solved
from roireg.view.results import archive, write_found
from roireg.view.session_file import check_open, read_session, resumed, session_entries
from roireg.view.slices import png, slice_of
from roireg.view.sources import CtSource, XraySource, camera_text, with_entries
from roireg.view.state import PointPair, with_pose
from roireg.view.stream import Stream
from roireg.view.surfaces import bone_surface, packed
from roireg.view.told import state_entries
from roireg.view.uploads import keep, place_of, uploaded
from roireg.view.workbench import Workbench
from roireg.workflow.named_method import method_from_a_pose

STATIC = Path(__file__).parent / "static"
GROUP = Annotated[str, Field(max_length=40)]
Coordinate = Annotated[float, Field(ge=-1e5, le=1e5, allow_inf_nan=False)]
log = logging.getLogger(__name__)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CtFiles(_Body):
    """Uploads that make a CT."""

    group: GROUP
    labels: GROUP | None = None
    rescale: tuple[float, float] = (1.0, 0.0)


class XrayFiles(_Body):
    """Uploads that make an X-ray, and the place it takes: None is a further one."""

    group: GROUP
    camera: GROUP | None = None
    place: int | None = None


class OneFile(_Body):
    """One upload: a pose of an X-ray, or a session."""

    group: GROUP
    view: int = 0


class Geometry(_Body):
    """Entries of a camera file, and pixels to crop from each side."""

    entries: dict[str, Any]
    crop_px: Annotated[int, Field(ge=0, le=4096)] = 0


class JobKind(_Body):
    """Which registration to run."""

    kind: Literal["search", "refine", "judge"]


class Method(_Body):
    """The configuration's method that refines; empty for that of the search."""

    name: Annotated[str, Field(max_length=200)]


class Points(_Body):
    """All pairs of points."""

    class Pair(_Body):
        """A point of the CT, and where it is seen by the number of the X-ray, in pixels of the stored picture."""

        ct_mm: tuple[Coordinate, Coordinate, Coordinate] | None
        pixels: dict[int, tuple[Coordinate, Coordinate]]

    pairs: Annotated[list[Pair], Field(max_length=200)]


class Exclusion(_Body):
    """Labels that may have moved since the CT."""

    labels: Annotated[list[str], Field(max_length=300)]


def create_app(workbench: Workbench, token: str, upload_limit_bytes: int = UPLOAD_LIMIT_BYTES) -> ASGIApp:
    """The server of one workbench, behind its `Guard`."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(InputError, _told)
    app.add_exception_handler(OSError, _told)
    app.add_exception_handler(RequestValidationError, _told)
    app.add_exception_handler(HTTPException, _told)
    app.add_exception_handler(Exception, _told)
    for router in (_files(workbench), _poses(workbench), _results(workbench), _stream(workbench)):
        app.include_router(router, prefix="/api")
    app.mount("/", StaticFiles(directory=STATIC, html=True))
    return Guard(app, token, upload_limit_bytes)


async def _told(request: Request, error: Exception) -> Response:
    """A fault as one line of JSON."""
    status = 400
    if isinstance(error, HTTPException):
        status, text = error.status_code, str(error.detail)
    elif isinstance(error, RequestValidationError):
        first = error.errors()[0]
        text = f"{'.'.join(str(part) for part in first['loc'][1:])}: {first['msg']}"
    elif isinstance(error, InputError):
        text = str(error)
    elif isinstance(error, OSError) and (known := write_error(error.filename or "the file", error)) is not None:
        text = str(known)
    else:
        status, text = 500, f"unexpected {type(error).__name__}: {error}"
        log.error("%s %s", request.method, request.url.path, exc_info=error)
    return JSONResponse({"error": one_line(text)}, status)


def _files(workbench: Workbench) -> APIRouter:
    """Opens and closes files, and changes how X-rays are read."""
    router = APIRouter()

    def found(group: str | None) -> Path | None:
        return None if group is None else uploaded(workbench.folder, group)

    @router.put("/uploads/{group}/{name}")
    async def upload(group: str, name: str, request: Request) -> dict[str, str]:
        await keep(place_of(workbench.folder, group, name), request.stream())
        return {"name": name}

    @router.post("/ct")
    def open_ct(files: CtFiles) -> dict[str, Any]:
        path = uploaded(workbench.folder, files.group)
        workbench.open_ct(CtSource(path, found(files.labels), rescale=files.rescale))
        return state_entries(workbench)

    @router.post("/xrays")
    def open_xray(files: XrayFiles) -> dict[str, Any]:
        path = uploaded(workbench.folder, files.group)
        workbench.open_xray(XraySource(path, found(files.camera)), files.place)
        return state_entries(workbench)

    @router.delete("/xrays/{number}")
    def close_xray(number: int) -> dict[str, Any]:
        workbench.close_xray(number)
        return state_entries(workbench)

    @router.put("/xrays/{number}/geometry")
    def set_geometry(number: int, geometry: Geometry) -> dict[str, Any]:
        source = workbench.state.view(number).file_source
        workbench.open_xray(with_entries(source, geometry.entries, geometry.crop_px), number)
        return state_entries(workbench)

    @router.get("/xrays/{number}/camera.yaml")
    def camera_file(number: int) -> Response:
        view = workbench.state.view(number)
        return _download(camera_text(camera_entries(view.file_source, view.shown)).encode(), "camera.yaml")

    return router


def _poses(workbench: Workbench) -> APIRouter:
    """The pose from files and from points; slices to click on."""
    router = APIRouter()

    @router.post("/pose")
    def open_pose(file: OneFile) -> dict[str, Any]:
        workbench.go_to(file.view, read_pose(uploaded(workbench.folder, file.group)).pose)
        return state_entries(workbench)

    @router.get("/slices/{axis}/{index}")
    def ct_slice(axis: int, index: int) -> Response:
        return Response(png(slice_of(workbench.state.known_patient, axis, index)), media_type="image/png")

    @router.get("/surface")
    def surface() -> Response:
        return Response(packed(bone_surface(workbench.state.known_patient)), media_type="application/octet-stream")

    @router.put("/points")
    def set_points(points: Points) -> dict[str, Any]:
        pairs = tuple(PointPair(one.ct_mm, dict(one.pixels)) for one in points.pairs)
        workbench.change(lambda state: replace(state, points=pairs))
        return {"pairs": len(pairs)}

    @router.post("/rows/{place}")
    def show_row(place: int) -> dict[str, Any]:
        workbench.step_to(place)
        return state_entries(workbench)

    @router.post("/points/pose")
    def pose_from_points() -> dict[str, Any]:
        result = solved(workbench.state)
        workbench.change(lambda state: with_pose(state, result.rig_pose))
        return {"residuals": [{"point": point, "view": view, "px": px} for point, view, px in result.residuals_px]}

    return router


def _results(workbench: Workbench) -> APIRouter:
    """Registrations, and what is saved."""
    router = APIRouter()

    @router.put("/exclude")
    def exclude(exclusion: Exclusion) -> dict[str, Any]:
        if exclusion.labels:
            workbench.state.known_patient.label_mask(exclusion.labels, "excluded labels")
        workbench.change(lambda state: replace(state, exclude=tuple(exclusion.labels)))
        return {"exclude": exclusion.labels}

    @router.put("/method")
    def choose(method: Method) -> dict[str, Any]:
        if method.name:
            method_from_a_pose(method.name, workbench.state.config)
        workbench.change(lambda state: replace(state, method=method.name))
        return {"method": method.name}

    @router.post("/job")
    def start(job: JobKind) -> dict[str, Any]:
        workbench.start(job.kind)
        return state_entries(workbench)

    @router.delete("/job")
    def stop() -> dict[str, Any]:
        workbench.stop()
        return state_entries(workbench)

    @router.get("/found/{number}/results.zip")
    def results(number: int) -> Response:
        return _download(archive(workbench, number), "results.zip")

    @router.post("/found/{number}/save")
    def save(number: int) -> dict[str, Sequence[str]]:
        if workbench.out is None:
            raise InputError("save", "no folder was named", "Start `roireg view` with --out, or download the results")
        return {"folders": [str(path) for path in write_found(workbench, number, workbench.out)]}

    @router.get("/session.json")
    def session() -> JSONResponse:
        headers = {"Content-Disposition": 'attachment; filename="session.json"'}
        return JSONResponse(session_entries(workbench.state), headers=headers)

    @router.post("/session")
    def open_session(file: OneFile) -> dict[str, Any]:
        read = read_session(uploaded(workbench.folder, file.group))
        check_open(workbench.state, read)
        for number, one in enumerate(read.xray_sources):
            own = workbench.state.view(number).file_source
            changed = replace(one, path=own.path, camera=own.camera)
            if changed != own:
                workbench.open_xray(changed, number)
        workbench.change(lambda state: resumed(state, read))
        return state_entries(workbench)

    return router


def _stream(workbench: Workbench) -> APIRouter:
    """Pictures, and the hand's movements."""
    router = APIRouter()
    painter = ThreadPoolExecutor(1, "painter")

    @router.websocket("/stream")
    async def stream(socket: WebSocket) -> None:
        await socket.accept()
        await Stream(socket, workbench, painter).run()

    return router


def _download(content: bytes, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type="application/octet-stream", headers=headers)
