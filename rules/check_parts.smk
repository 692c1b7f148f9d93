"""Which datasets are checked, and what the end of a run says of a check that found something."""

CHECKED = config["dataset"]["path"] is not None or config["dataset"]["source"] != "demo"


def say_contradictions():
    """At the end of a run: what the check found to be wrong or to be set."""
    page = Path(rules.check_dataset.output.page)
    if CHECKED and page.is_file():
        lines = page.read_text().splitlines()
        found = [one for one in lines if one.startswith(("- **wrong**", "- **set**"))]
        if found:
            print(f"{page} says:", *found, sep="\n", file=sys.stderr)


onsuccess:
    say_contradictions()


onerror:
    say_contradictions()
