"""Who may use the server: the token, this machine's own page, no path outside, no upload that is too large."""

import socket

import pytest
import requests
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from workbench import TOKEN, running

from roireg.view.access import new_token, refusal
from roireg.view.serve import Opened, bound


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("empty")
    (folder / "secret.txt").write_text("secret")
    with running(Opened(), folder, upload_limit_bytes=1000) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/index.html", "/api/session.json", f"/{TOKEN[:-1]}/", f"/{TOKEN}x/", "//"])
def test_no_request_without_the_token(empty, path):
    assert requests.get(f"http://127.0.0.1:{empty.port}{path}", timeout=5).status_code == 403


def test_the_page_is_served_with_the_token_and_may_load_nothing_from_elsewhere(empty):
    answer = empty.get("/")
    assert answer.status_code == 200
    assert "<title>" in answer.text
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")
    assert answer.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("host", ["example.org", "example.org:{port}", "127.0.0.1.example.org:{port}", ""])
def test_another_host_name_is_refused(empty, host):
    headers = {"Host": host.format(port=empty.port)}
    assert requests.get(f"{empty.address}/", headers=headers, timeout=5).status_code in (400, 403)


def test_a_tunnel_may_have_another_port(empty):
    assert requests.get(f"{empty.address}/", headers={"Host": "localhost:8000"}, timeout=5).status_code == 200


@pytest.mark.parametrize("origin", ["http://example.org", "null", "http://127.0.0.1:1", "https://127.0.0.1:{port}"])
def test_another_origin_is_refused(empty, origin):
    headers = {"Origin": origin.format(port=empty.port)}
    assert requests.post(f"{empty.address}/api/job", json={"kind": "search"}, headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("token", "origin"), [("wrong", "http://127.0.0.1:{port}"), (TOKEN, "http://example.org"), ("", None)]
)
def test_no_stream_without_the_token_or_from_another_origin(empty, token, origin):
    address = f"ws://127.0.0.1:{empty.port}/{token}/api/stream"
    with pytest.raises(InvalidStatus) as refused:
        connect(address, origin=origin and origin.format(port=empty.port))
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    "path",
    ["/../secret.txt", "/..%2fsecret.txt", "/%2e%2e/%2e%2e/secret.txt", "/%2fetc/passwd", "//etc/passwd", "/../app.py"],
)
def test_no_path_leads_outside(empty, path):
    # As it stands: libraries would resolve the dots before they send it.
    with socket.create_connection(("127.0.0.1", empty.port), timeout=5) as line:
        request = f"GET /{TOKEN}{path} HTTP/1.1\r\nHost: 127.0.0.1:{empty.port}\r\nConnection: close\r\n\r\n"
        line.sendall(request.encode())
        answer = b""
        while more := line.recv(65536):
            answer += more
    assert answer.split()[1] == b"404"
    assert b"secret" not in answer.split(b"\r\n\r\n")[-1]
    assert b"root:" not in answer


@pytest.mark.parametrize("name", ["..", ".", "..%2f..%2fevil", "%2fevil", "a%5cb", "a%00b", "x" * 300])
def test_an_upload_stays_in_its_folder(empty, name):
    before = {path for path in empty.workbench.folder.rglob("*")}
    answer = requests.put(f"{empty.address}/api/uploads/group/{name}", data=b"x", timeout=5)
    assert answer.status_code in (400, 404, 405)
    assert {path for path in empty.workbench.folder.rglob("*")} == before


def test_a_group_leads_nowhere_else(empty):
    answer = empty.post("/api/ct", group="../..")
    assert answer.status_code == 400
    assert "no group of files" in answer.json()["error"]


def test_an_upload_that_is_too_large_leaves_nothing(empty):
    answer = requests.put(f"{empty.address}/api/uploads/large/ct.nii", data=b"x" * 1001, timeout=5)
    assert answer.status_code == 413
    chunks = iter([b"x" * 600, b"x" * 600])
    streamed = requests.put(f"{empty.address}/api/uploads/large/ct.nii", data=chunks, timeout=5)
    assert streamed.status_code == 413
    assert not list((empty.workbench.folder / "uploads" / "large").glob("*"))
    assert requests.put(f"{empty.address}/api/uploads/small/ct.nii", data=b"x" * 1000, timeout=5).status_code == 200


def test_other_bodies_are_limited_too(empty):
    assert empty.put("/api/exclude", labels=["x" * 2**20]).status_code == 413


def test_nothing_but_this_machine_is_listened_on():
    with bound(0) as listening:
        assert listening.getsockname()[0] == "127.0.0.1"


def test_tokens_are_long_and_differ():
    assert len(new_token()) >= 43
    assert new_token() != new_token()


def test_a_refusal_says_why():
    own = {"host": "127.0.0.1:5"}
    assert refusal("/token/x", own, "token") == ""
    assert "token" in refusal("/other/x", own, "token")
    assert "another site" in refusal("/token/", {**own, "origin": "http://127.0.0.1:6"}, "token")
    assert "own name" in refusal("/token/", {"host": "rebound.example"}, "token")
    assert refusal("/token/", {"host": "[::1]:5"}, "token") == ""
