"""Names of labels, compared alike wherever a name is looked up: `left-hemipelvis` of a file is `Left hemipelvis`."""

import re
from collections.abc import Iterable, Mapping

from roireg.errors import InputError

SEPARATORS = re.compile(r"[-_\s]+")


def normalized(name: str) -> str:
    """The form in which names are compared: lower case, with one blank for each run of `-`, `_` and blanks."""
    return SEPARATORS.sub(" ", name).strip().casefold()


def check_distinct(names: Iterable[str], where: object, remedy: str) -> None:
    """Check that no two names are the same once they are `normalized`.

    Raises:
        InputError: two are; `where` and `remedy` are its parts.
    """
    seen: dict[str, str] = {}
    for name in names:
        if normalized(name) in seen:
            what = f"{seen[normalized(name)]!r} and {name!r} are the same name (case, - and _ do not count)"
            raise InputError(where, what, remedy)
        seen[normalized(name)] = name


def label_ids(label_names: Mapping[int, str], names: Iterable[str], key: str) -> list[int]:
    """Label ids of names, in their order.

    Args:
        label_names: name by label id.
        names: those that are wanted.
        key: who asks for them, such as a key of the config.

    Raises:
        InputError: there is no label of that name.
    """
    ids = {normalized(name): label for label, name in label_names.items()}
    for name in names:
        if normalized(name) not in ids:
            known = ", ".join(sorted(label_names.values())) or "none"
            raise InputError(f"{key}: {name!r}", "the specimen does not have it", f"Its labels: {known}")
    return [ids[normalized(name)] for name in names]
