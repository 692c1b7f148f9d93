"""Mutated files of every kind that users bring: read right, or refused in one line. The long run is `make soak`."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from reliability.fuzz import CRASH, FAULTS, HANG, MEMORY, OTHER_FILE, PIXELS_DIFFER, REFUSED, RIGHT, TRACEBACK, WRONG
from reliability.fuzz import outcomes as all_outcomes
from reliability.parts import VALUES, Subject
from reliability.subjects import SUBJECTS
from roireg.errors import InputError

ROOT = Path(__file__).parents[2]
INPUTS, SEED = 900, 0


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> list[dict[str, str]]:
    """In a process of its own, as what other tests started would be forked too."""
    out = tmp_path_factory.mktemp("fuzz") / "outcomes.json"
    command = [
        sys.executable,
        "-m",
        "reliability.fuzz",
        "--inputs",
        str(INPUTS),
        "--seed",
        str(SEED),
        "--out",
        str(out),
    ]
    paths = os.pathsep.join(map(str, (ROOT / "src", ROOT / "tests")))
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}, capture_output=True, check=False
    )
    assert out.exists(), done.stderr.decode()
    return json.loads(out.read_text())


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_mutated_file_is_read_right_or_refused_in_one_line(outcomes, name):
    found = [one for one in outcomes if one["subject"] == name]
    faults = [one for one in found if one["result"] in FAULTS]
    assert not faults, faults[0]
    counts = Counter(one["result"] for one in found)
    assert counts.total() == sum(counts[one] for one in (RIGHT, REFUSED, PIXELS_DIFFER, OTHER_FILE))
    # A fuzzer whose inputs are all refused, or none, finds nothing; small files are refused nearly always.
    assert counts[REFUSED] > 0
    if counts.total() > 40:
        assert counts[REFUSED] >= counts.total() / 3


def test_about_as_many_inputs_were_tried_as_asked_for(outcomes):
    assert abs(len(outcomes) - INPUTS) < len(SUBJECTS)
    assert {one["subject"] for one in outcomes} == {*SUBJECTS}


def _dies(folder: Path) -> dict[str, np.ndarray]:
    os.kill(os.getpid(), 11)
    return {}


def _eats(folder: Path) -> dict[str, np.ndarray]:
    return {VALUES: np.ones(10**9)}


def _stumbles(folder: Path) -> dict[str, np.ndarray]:
    raise KeyError("a bug")


def _spins(folder: Path) -> dict[str, np.ndarray]:
    while True:
        pass


def _mistakes(folder: Path) -> dict[str, np.ndarray]:
    return {VALUES: np.array([len((folder / "x").read_bytes())])}


def _says_two_lines(folder: Path) -> dict[str, np.ndarray]:
    error = InputError("x", "y", "z")
    error.args = ("one\ntwo",)
    raise error


@pytest.mark.parametrize(
    ("read", "result"),
    [
        (_dies, CRASH),
        (_eats, MEMORY),
        (_stumbles, TRACEBACK),
        (_spins, HANG),
        (_mistakes, WRONG),
        (_says_two_lines, TRACEBACK),
    ],
)
def test_the_fuzzer_finds_readers_that_fail(tmp_path, monkeypatch, read, result):
    """Readers that fail once a file is no longer whole."""
    monkeypatch.setattr("reliability.fuzz.CPU_SECONDS", 1)
    whole = b"whole " * 100

    def reader(folder: Path) -> dict[str, np.ndarray]:
        if (folder / "x").read_bytes() == whole:
            return {VALUES: np.array([len(whole)])}
        return read(folder)

    subject = Subject(
        "bad",
        lambda folder: (folder / "x").write_bytes(whole),
        "x",
        reader,
        lambda data: 0,
        protected=frozenset({VALUES}),
    )
    found = Counter(one.result for one in all_outcomes(subject, range(3), 0, tmp_path / "base"))
    assert found[result] >= 1
    assert sum(found[one] for one in FAULTS if one != result) == 0
