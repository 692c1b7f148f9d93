"""Rendering beside a registration: at once where Numba allows it, one after the other where it does not."""

import threading

import numba
import pytest

from roireg.view.threads import compiled_code


@pytest.mark.parametrize(("layer", "waits"), [("omp", False), ("tbb", False), ("workqueue", True)])
def test_where_numba_has_threads_of_its_own_others_wait(monkeypatch, layer, waits):
    monkeypatch.setattr(numba, "threading_layer", lambda: layer)
    entered = threading.Event()

    def render() -> None:
        with compiled_code():
            entered.set()

    with compiled_code():
        other = threading.Thread(target=render)
        other.start()
        assert entered.wait(0.2) is not waits
    other.join(5)
    assert entered.is_set()


def test_before_anything_has_run_others_wait_too(monkeypatch):
    def unknown() -> str:
        raise ValueError("Threading layer is not initialized.")

    monkeypatch.setattr(numba, "threading_layer", unknown)
    assert hasattr(compiled_code(), "acquire")
