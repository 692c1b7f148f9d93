"""Every rule has what a rule must have."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = "\n".join(path.read_text() for path in sorted((REPOSITORY / "rules").glob("*.smk")))
BLOCKS = dict(re.findall(r"^rule (\w+):\n((?:(?: .*)?\n)+)", TEXT, re.MULTILINE))
WORKING = {name: block for name, block in BLOCKS.items() if "script:" in block}


def test_all_scripts_belong_to_a_rule():
    scripts = {path.stem for path in (REPOSITORY / "workflow_scripts").glob("*.py")}
    assert scripts == set(WORKING)


@pytest.mark.parametrize("name", WORKING)
def test_a_rule_has_docstring_log_benchmark_environment_and_resources(name):
    block = WORKING[name]
    assert block.lstrip().startswith('"""')
    for part in ("log:", "benchmark:", "conda:", "params:", "threads:", "mem_mb=", "runtime=", "gpu="):
        assert part in block, part
    assert f"workflow_scripts/{name}.py" in block


# What is fetched is known by its checksum, whatever the code.
@pytest.mark.parametrize("name", sorted(set(WORKING) - {"download_demo_ct", "download_deepfluoro"}))
def test_a_rule_carries_the_fingerprint_of_its_code(name):
    assert f'code=code("{name}")' in WORKING[name]
