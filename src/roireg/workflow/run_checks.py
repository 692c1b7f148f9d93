"""Checks of a run before it is planned: licence, conditions, and whether its specimens suffice."""

from collections.abc import Mapping, Sequence
from typing import Any

from roireg.errors import InputError
from roireg.workflow.comparisons import table3_pairs
from roireg.workflow.plan import encoders_of, guiding_segmenter, segmenters_for


def check_licence(config: Mapping[str, Any]) -> None:
    """Check that the licence of data to be downloaded was accepted.

    Raises:
        InputError: it was not accepted.
    """
    dataset = config["dataset"]
    fetched = dataset["path"] is None and dataset["source"] == "deepfluoro"
    if fetched and not config["deepfluoro"]["accept_license"]:
        what = "DeepFluoro is downloaded only after you accept its licence (CC BY-NC 4.0: no commercial use)"
        remedy = "Read it at https://doi.org/10.7281/T1/IFSXNV and set this to true, or set dataset.path to the file"
        raise InputError("config: deepfluoro.accept_license", what, remedy)


def check_conditions(config: Mapping[str, Any]) -> None:
    """Check that conditions, which change the demo data, are used with the demo data only.

    Raises:
        InputError: there are conditions and another data set.
    """
    dataset = config["dataset"]
    if config["conditions"] and (dataset["path"] is not None or dataset["source"] != "demo"):
        what = "conditions are changes of the demo data, but the run uses another dataset"
        raise InputError("config: conditions", what, "Remove them, or set dataset.source to demo")


def check_case(config: Mapping[str, Any], specimens: Sequence[str]) -> None:
    """Check that the specimen of Figure 5 exists.

    Raises:
        InputError: it does not exist.
    """
    name = config["figures"]["case_study"]["specimen"]
    if name is not None and name not in specimens:
        what = f"{name!r} is not a specimen of this run"
        raise InputError("config: figures.case_study.specimen", what, f"Specimens: {', '.join(specimens)}")


def check_leave_one_out(config: Mapping[str, Any], specimens: Sequence[str]) -> None:
    """Check that there are two specimens or more if a segmenter is needed.

    A segmenter is trained on all specimens but one. It is evaluated on that one, and used for its registrations and in
    the training of its encoder.

    Raises:
        InputError: there is a single specimen, and the run needs a segmenter.
    """
    if len(specimens) > 1:
        return
    names = ", ".join(specimens)
    what = f"a segmenter is trained without one specimen, so two are needed, and there is {len(specimens)} ({names})"
    for key, used, remedy in _uses_of_segmenters(config):
        if used:
            raise InputError(f"config: {key}", what, f"Add specimens, or {remedy}")


def _uses_of_segmenters(config: Mapping[str, Any]) -> list[tuple[str, bool, str]]:
    """Config keys that may require a segmenter, whether they do, and a remedy that avoids it."""
    tables, figures = config["tables"], config["figures"]
    methods = [*tables["table1"]["methods"], *figures["methods"], *figures["capture_range"]["methods"]]
    encoders = [*encoders_of(config, methods), *figures["learning_curves"]["encoders"]]
    return [
        ("tables.table2.segmenters", bool(tables["table2"]["segmenters"]), "set it to [] to leave Table 2 out"),
        ("figures.case_study.methods", bool(figures["case_study"]["methods"]), "set it to [] to leave Figure 5 out"),
        *(
            (f"methods.{name}.roi", bool(segmenters_for(config, [name])), "set it to none to register without ROIs")
            for name in methods
        ),
        ("tables.table3.similarities", bool(table3_pairs(config)), "set it to [] to leave Table 3 out"),
        ("tables.ablation.optimizers", bool(tables["ablation"]["optimizers"]), "set it to [] to leave it out"),
        *(
            (f"encoders.{name}.loss.roi", bool(guiding_segmenter(config, name)), "set it to 0 to train without ROIs")
            for name in encoders
        ),
    ]
