"""`roireg view`: what it refuses, in one line, and that it listens where it says."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from typer.testing import CliRunner

from roireg.cli.app import app


def told(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["view", *arguments])
    assert result.exit_code == 1, result.output
    return result.output


def test_a_missing_extra_is_one_line_that_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    output = told()
    assert 'this needs the package uvicorn: pip install "roireg[view]"' in output
    assert len(output.splitlines()) == 1


def test_wrong_files_are_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "session.json").write_text("{}")
    for name in ("notes.txt", "missing.nii.gz"):
        output = told(str(tmp_path / name), "--no-browser")
        assert name in output
        assert len(output.splitlines()) == 1
    assert "not a session file" in told(str(tmp_path / "session.json"), "--no-browser")
    assert "Give it alone" in told(str(tmp_path / "session.json"), str(tmp_path / "notes.txt"))
    assert "Give one CT" in told(str(tmp_path), str(tmp_path.parent))


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_it_prints_the_address_and_ends_with_ctrl_c():
    code = "from roireg.cli.app import app; app(['view', '--no-browser'])"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src"), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        try:
            address = run.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:")
            # The socket is open before the address is printed: the request waits until the server is there.
            assert requests.get(address, timeout=30).status_code == 200
            run.send_signal(signal.SIGINT)
            _, complaints = run.communicate(timeout=30)
        finally:
            run.kill()
    assert "Traceback" not in complaints
