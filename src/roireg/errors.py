"""The exception for faults in the user's input."""

# A name or a value in a user's file may be as long as the file.
PART_LENGTH = 400


class InputError(ValueError):
    """A fault in the user's input, shown as a message of one line: no control characters, and long parts are cut.

    Attributes:
        where: file or config key with the fault.
        what: the fault.
        remedy: what the user can do.
    """

    def __init__(self, where: object, what: str, remedy: str) -> None:
        self.where, self.what, self.remedy = (one_line(str(part)) for part in (where, what, remedy))
        super().__init__(f"{self.where}: {self.what}. {self.remedy}")


def one_line(text: str, length: int = PART_LENGTH) -> str:
    """Text in one printable line of at most about `length` characters; the middle of longer text is left out."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    line = " ".join(printable.split())
    return line if len(line) <= length else f"{line[: length // 2]} ... {line[-length // 3 :]}"
