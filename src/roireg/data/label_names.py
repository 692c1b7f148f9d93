"""Comparison of label names, which ignores case, hyphens and underscores: `left-hemipelvis` is `Left hemipelvis`."""

import re
from collections.abc import Iterable, Mapping

from roireg.errors import InputError

SEPARATORS = re.compile(r"[-_\s]+")


def normalized(name: str) -> str:
    """The form in which names are compared: lower case, each run of `-`, `_` and blanks replaced by one blank."""
    return SEPARATORS.sub(" ", name).strip().casefold()


def check_distinct(names: Iterable[str], where: object, remedy: str) -> None:
    """Check that no two names are equal after `normalized`.

    Args:
        names: the names.
        where, remedy: parts of the error message.

    Raises:
        InputError: two names are equal.
    """
    seen: dict[str, str] = {}
    for name in names:
        if normalized(name) in seen:
            what = f"{seen[normalized(name)]!r} and {name!r} are the same name (case, - and _ are ignored)"
            raise InputError(where, what, remedy)
        seen[normalized(name)] = name


def label_ids(label_names: Mapping[int, str], names: Iterable[str], key: str) -> list[int]:
    """Label ids of names, in the order of the names.

    Args:
        label_names: names by label id.
        names: names to look up.
        key: config key or option that gives the names, for the error message.

    Raises:
        InputError: there is no label of that name.
    """
    ids = {normalized(name): label for label, name in label_names.items()}
    for name in names:
        if normalized(name) not in ids:
            known = ", ".join(sorted(label_names.values())) or "none"
            raise InputError(f"{key}: {name!r}", "the specimen does not have it", f"Its labels: {known}")
    return [ids[normalized(name)] for name in names]
