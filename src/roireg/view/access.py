"""Who may use the server: requests that know the token, from this machine's own page, and not too large.

The token is the first part of every path. A page of another site can neither know it nor, where a name server was made
to point at this machine (DNS rebinding), send a request with this machine's name in `Host`.
"""

import hmac
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")
UPLOADS = "/api/uploads/"
UPLOAD_LIMIT_BYTES, BODY_LIMIT_BYTES = 2 * 2**30, 2**20
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def new_token() -> str:
    """A token that cannot be guessed (256 bits), of letters that an address may have."""
    return secrets.token_urlsafe(32)


def refusal(path: str, headers: Mapping[str, str], token: str) -> str:
    """Why a request is refused; empty if it is not.

    Args:
        path: of the request, with the token in front.
        headers: of the request, with names in lower case.
        token: of this server.
    """
    host = headers.get("host", "")
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if name not in OWN_NAMES:
        return "the request is not for this machine's own name"
    origin = headers.get("origin")
    if origin is not None and (urlsplit(origin).scheme != "http" or urlsplit(origin).netloc != host):
        return "the request comes from another site"
    if not hmac.compare_digest(_first(path).encode(), token.encode()):
        return "the address lacks the token. Use the whole address that `roireg view` printed"
    return ""


def _first(path: str) -> str:
    return path.removeprefix("/").split("/", 1)[0]


class Guard:
    """ASGI middleware: refuses what `refusal` names, limits bodies, and takes the token off the path."""

    def __init__(self, app: ASGIApp, token: str, upload_limit_bytes: int = UPLOAD_LIMIT_BYTES) -> None:
        self.app, self.token, self.upload_limit_bytes = app, token, upload_limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or connection."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        why = refusal(scope["path"], Headers(scope=scope), self.token)
        if why and scope["type"] == "websocket":
            # Closed before it was accepted: the client gets status 403.
            await send({"type": "websocket.close", "code": 1008, "reason": why})
            return
        if why:
            await PlainTextResponse(why, 403, HEADERS)(scope, receive, send)
            return
        path = scope["path"].removeprefix("/" + self.token) or "/"
        inner = {**scope, "path": path, "raw_path": path.encode()}
        if scope["type"] == "websocket":
            await self.app(inner, receive, send)
            return
        limit = self.upload_limit_bytes if path.startswith(UPLOADS) else BODY_LIMIT_BYTES
        await self.app(inner, _limited(receive, limit), _with_headers(send))


def _limited(receive: Receive, limit_bytes: int) -> Receive:
    taken = 0

    async def counted() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit_bytes:
            raise HTTPException(413, f"it is larger than {limit_bytes / 2**20:g} MiB")
        return message

    return counted


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return sent
