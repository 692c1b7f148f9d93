"""An HTTP server that misbehaves as it is told, on a real socket; and a Dataverse's description of a file."""

import hashlib
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from roireg.data.deepfluoro_archive import DATASET_ID, FILE_ID


@dataclass
class Behaviour:
    """What the server does: with each request for the file, in turn, the last one for ever.

    Attributes:
        contents: what the file is.
        cuts: after so many bytes of the answer the connection is closed; None for never.
        statuses: an answer without the file; None for the file.
        ranges: whether requests for a part are understood.
        stated: Content-Length in place of the true one.
        kind: Content-Type.
        metadata: the archive's description of its files, as JSON.
        seen: the Range headers that came.
    """

    contents: list[bytes]
    cuts: list[int | None] = field(default_factory=lambda: [None])
    statuses: list[int | None] = field(default_factory=lambda: [None])
    ranges: bool = True
    stated: int | None = None
    kind: str = "application/zip"
    metadata: dict | None = None
    seen: list[str | None] = field(default_factory=list)

    def turn(self, values: list):
        """The value for the request that is being answered."""
        return values[min(len(self.seen) - 1, len(values) - 1)]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        behaviour = self.server.behaviour
        if self.path.startswith("/api/datasets/"):
            body = json.dumps(behaviour.metadata).encode()
            self.answer(200, body, {"Content-Type": "application/json"})
            return
        wanted = self.headers.get("Range")
        behaviour.seen.append(wanted)
        if status := behaviour.turn(behaviour.statuses):
            self.answer(status, b"no", {})
            return
        content, headers, code = behaviour.turn(behaviour.contents), {"Content-Type": behaviour.kind}, 200
        if wanted and behaviour.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.answer(416, b"", {})
                return
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content, code = content[start:], 206
        self.answer(code, content, headers, behaviour.turn(behaviour.cuts), behaviour.stated)

    def answer(self, code, body, headers, cut=None, stated=None):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if stated is None else stated))
        self.end_headers()
        self.wfile.write(body[:cut])
        self.close_connection = True

    def log_message(self, *args):
        pass


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[str]:
    """A server with a behaviour, and its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.behaviour = behaviour
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def zipped(path: Path, members: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path.read_bytes()


def described(content: bytes, **changes) -> dict:
    """Metadata as Dataverse gives them, of two files."""
    file = {
        "persistentId": FILE_ID,
        "filename": "ipcai_2020_full_res_data.zip",
        "filesize": len(content),
        "md5": hashlib.md5(content).hexdigest(),
        "checksum": {"type": "MD5", "value": hashlib.md5(content).hexdigest()},
        **changes,
    }
    other = {"persistentId": f"{DATASET_ID}/OTHER", "filesize": 1, "md5": "0"}
    return {"status": "OK", "data": {"latestVersion": {"files": [{"dataFile": other}, {"dataFile": file}]}}}
