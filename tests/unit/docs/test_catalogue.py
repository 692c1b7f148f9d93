"""What the Snakemake workflow catalogue asks of a repository that it lists (not under "standardized usage")."""

import yaml
from workflows import REPOSITORY


def test_the_repository_has_what_a_listing_asks_for():
    assert (REPOSITORY / "Snakefile").is_file()
    # Beside a folder of this name, the catalogue looks nowhere else.
    assert not (REPOSITORY / "workflow").exists()
    assert [*(REPOSITORY / "rules").glob("*.smk")]
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8").lower()
    assert "snakemake" in readme
    assert "workflow" in readme


def test_the_settings_of_the_catalogue_are_of_its_keys_and_name_files_that_exist():
    usage = yaml.safe_load((REPOSITORY / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    assert set(usage["software-stack-deployment"]) == {"conda", "apptainer", "apptainer+conda"}
    option, path = usage["mandatory-flags"]["flags"].split()
    assert option == "--configfile"
    assert (REPOSITORY / path).is_file()
