"""The user's own files: how they are found, loaded once, passed to jobs and hashed, and what is said if they fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from roireg.errors import InputError
from roireg.plugins import VARIABLE, load_plugins, load_shared_plugins, share_plugins
from roireg.workflow.config import validated
from roireg.workflow.provenance import code_digest

ROOT = Path(__file__).parents[2]
START = """
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from roireg.register.registry import STARTS, StartKind


@dataclass(frozen=True)
class Settings:
    type: Literal["{name}"] = Field(default="{name}", kw_only=True)


STARTS["{name}"] = StartKind(Settings, lambda settings, context: context.expected)
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)


def test_a_file_is_loaded_once(tmp_path):
    path = tmp_path / "loaded_once.py"
    path.write_text("")
    assert load_plugins([str(path)]) == [str(path)]
    assert load_plugins([str(path)]) == []


@pytest.mark.parametrize("text", ["import nowhere_to_be_found", "1 +", None])
def test_a_plugin_that_cannot_be_imported_is_named(tmp_path, text):
    path = tmp_path / "broken.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"plugin .*broken\.py: it cannot be imported") as caught:
        load_plugins([str(path)])
    assert "\n" not in str(caught.value)


def test_a_module_that_does_not_exist_is_named():
    with pytest.raises(InputError, match="plugin no_such_module: it cannot be imported"):
        load_plugins(["no_such_module"])


def test_jobs_get_the_plugins_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "of_a_job.py").write_text("")
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    share_plugins(["of_a_job.py"])
    monkeypatch.chdir("/")
    load_shared_plugins()
    assert "roireg_plugin_of_a_job" in sys.modules


def test_a_plugin_that_comes_too_late_is_refused(tmp_path):
    validated({})
    path = tmp_path / "late.py"
    path.write_text("")
    with pytest.raises(InputError, match=r"config: plugins: .*late"):
        validated({"plugins": [str(path)]})


@pytest.mark.parametrize("value", ["a.py", [1], {"a": 1}])
def test_plugins_that_are_not_a_list_of_names_are_refused(value):
    with pytest.raises(InputError, match="config: plugins"):
        validated({"plugins": value})


def test_a_second_file_of_the_same_name_is_refused(tmp_path):
    """One module name for two files would silently drop the second."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same_name.py").write_text("")
    load_plugins([str(tmp_path / "a" / "same_name.py")])
    with pytest.raises(InputError, match="same_name"):
        load_plugins([str(tmp_path / "b" / "same_name.py")])


def test_an_added_start_can_be_written_in_a_configuration(tmp_path):
    (tmp_path / "mine.py").write_text(START.format(name="mine"))
    code = (
        "from roireg.workflow.config import validated\n"
        "config = validated({'plugins': ['mine.py'], 'initial_poses': {'x': {'type': 'mine'}}})\n"
        "print(config['initial_poses'])"
    )
    done = run(code, tmp_path)
    assert done.stdout.strip() == "{'x': {'type': 'mine'}}", done.stderr


def test_an_edit_of_a_plugin_changes_the_hash_and_a_comment_does_not(tmp_path):
    script, plugin = tmp_path / "script.py", tmp_path / "plugin.py"
    script.write_text("")
    digests = []
    for text in ("x = 1", "x = 1  # one", "x = 2"):
        plugin.write_text(text)
        digests.append(code_digest(script, ROOT / "src", [str(plugin)]))
    assert digests[0] == digests[1] != digests[2]
    assert code_digest(script, ROOT / "src") not in digests
