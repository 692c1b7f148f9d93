"""Downloads large files: interrupted downloads are resumed, size and checksum are checked, the result is atomic."""

import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests

from roireg.errors import InputError

# Bytes written at once, at most these are lost when a connection breaks.
CHUNK_BYTES = 2**16
SECONDS_BETWEEN_REPORTS = 10.0
MEGABYTE = 1e6
# HTTP status codes after which it is worth trying again: too many requests, overloaded or restarting servers.
BUSY = (408, 429, 500, 502, 503, 504)
logger = logging.getLogger("roireg")


@dataclass(frozen=True)
class RemoteFile:
    """A file as its archive describes it.

    Attributes:
        url: address of the content.
        size_bytes: size of the file.
        algorithm: algorithm of the checksum, by its name in `hashlib`.
        digest: the checksum in hexadecimal.
    """

    url: str
    size_bytes: int
    algorithm: str
    digest: str


@dataclass(frozen=True)
class Patience:
    """When to give up a download.

    Attributes:
        attempts: number of consecutive attempts without progress.
        first_wait_seconds: wait after the first such attempt; it doubles after each further one.
        timeout_seconds: timeout of a connection.
    """

    attempts: int
    first_wait_seconds: float
    timeout_seconds: float


class _CutOff(Exception):
    """A transfer was interrupted; it can be resumed."""


def new_session() -> requests.Session:
    """A session that uses the certificates of SSL_CERT_FILE, unless requests' own environment variables are set."""
    session = requests.Session()
    if not ({"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} & os.environ.keys()):
        session.verify = os.environ.get("SSL_CERT_FILE") or True
    return session


def require_space(folder: Path, needed_bytes: int) -> None:
    """Check that a folder's file system has enough free space.

    Raises:
        InputError: it has less.
    """
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        what = f"{needed_bytes / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free"
        raise InputError(folder, what, "Free disk space, or run in another folder")


def fetch(
    remote: RemoteFile, path: str | Path, session: requests.Session, patience: Patience, spare_bytes: int
) -> None:
    """Download a file to `path`, atomically.

    A partial download is kept in `path` + ".part" and resumed by a later call. If a download that was resumed has a
    wrong checksum, it is repeated once from the beginning, because the file may have changed on the server meanwhile.

    Args:
        remote: the file.
        path: file to write.
        session: HTTP session.
        patience: when to give up retrying.
        spare_bytes: additional disk space that must be free.

    Raises:
        InputError: the server cannot be reached, the file does not match its description, or disk space is missing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    require_space(path.parent, remote.size_bytes - _size(part) + spare_bytes)
    in_pieces = _transfer(remote, part, session, patience)
    found = _digest(part, remote.algorithm)
    if in_pieces and found != remote.digest:
        logger.info("%s: the resumed download has a wrong checksum; downloading it from the beginning", remote.url)
        part.unlink()
        _transfer(remote, part, session, patience)
        found = _digest(part, remote.algorithm)
    if found != remote.digest:
        part.unlink()
        what = f"its {remote.algorithm} is {found}, not {remote.digest}"
        raise InputError(remote.url, what, "Try again later; if it fails again, the file or its checksum has changed")
    os.replace(part, path)


def _transfer(remote: RemoteFile, part: Path, session: requests.Session, patience: Patience) -> bool:
    """Download the missing bytes to `part`; returns True if the download was interrupted, now or in an earlier call."""
    in_pieces = _size(part) > 0
    failures, wait = 0, patience.first_wait_seconds
    while (have := _size(part)) < remote.size_bytes:
        in_pieces = in_pieces or have > 0
        try:
            for _ in _reported(_append(remote, part, session, patience.timeout_seconds), remote):
                pass
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError, _CutOff) as error:
            if _size(part) > have:
                failures, wait = 0, patience.first_wait_seconds
                continue
            failures += 1
            if failures >= patience.attempts:
                reason = str(error) if isinstance(error, _CutOff) else type(error).__name__
                what = f"the transfer failed {failures} times in a row ({reason})"
                raise InputError(remote.url, what, "Check the network and run again: the download is resumed") from None
            logger.info("%s: interrupted; next attempt in %.0f s", remote.url, wait)
            time.sleep(wait)
            wait *= 2
        except requests.RequestException as error:
            what = f"it cannot be downloaded ({type(error).__name__})"
            raise InputError(remote.url, what, "Open the address in a browser; it may have moved") from None
    return in_pieces


def _append(remote: RemoteFile, part: Path, session: requests.Session, timeout_seconds: float) -> Iterator[int]:
    """Request the missing bytes and append them to `part`; yields the size so far."""
    have = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with session.get(remote.url, headers=headers, stream=True, timeout=timeout_seconds) as response:
        _check_answer(response, remote, part, have)
        with open(part, "ab" if response.status_code == requests.codes.partial_content else "wb") as file:
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                yield file.tell()
                if file.tell() > remote.size_bytes:
                    file.truncate(0)
                    what = f"it is longer than the {remote.size_bytes} bytes stated by its archive"
                    raise InputError(remote.url, what, "Try again later; the archive may be changing")
    if _size(part) < remote.size_bytes:
        raise _CutOff("the server closed the connection early")


def _check_answer(response: requests.Response, remote: RemoteFile, part: Path, have: int) -> None:
    """Check that the response is the described file, from the requested byte on."""
    if response.status_code in BUSY:
        raise _CutOff(f"the server answers {response.status_code}")
    if response.status_code == requests.codes.requested_range_not_satisfiable:
        part.unlink()
        raise _CutOff("the file is shorter than the partial download")
    if not response.ok:
        what = f"the server answers {response.status_code} {response.reason}"
        raise InputError(remote.url, what, "Open the address in a browser; it may have moved or ask for consent")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        what = "the server sends a web page instead of the file"
        raise InputError(remote.url, what, "Open the address in a browser; it may have moved or ask for consent")
    if response.status_code == requests.codes.partial_content:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if span is None or int(span[1]) != have or span[2] not in ("*", str(remote.size_bytes)):
            part.unlink()
            raise _CutOff("the server resumes with another file")
        return
    length = int(response.headers.get("Content-Length", remote.size_bytes))
    if length != remote.size_bytes:
        what = f"the server sends {length} bytes but its archive states {remote.size_bytes}"
        raise InputError(remote.url, what, "Try again later; the archive may be changing")


def _reported(sizes: Iterator[int], remote: RemoteFile) -> Iterator[int]:
    """Yield the sizes, and log the progress, the rate and the estimated time left."""
    start, first, last = time.monotonic(), None, time.monotonic()
    for size in sizes:
        yield size
        first = size if first is None else first
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_REPORTS and size > first:
            last, rate = now, (size - first) / (now - start)
            logger.info(
                "%.0f of %.0f MB, %.1f MB/s, %.0f s left",
                size / MEGABYTE,
                remote.size_bytes / MEGABYTE,
                rate / MEGABYTE,
                (remote.size_bytes - size) / rate,
            )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _digest(path: Path, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
