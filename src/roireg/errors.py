"""The one exception that a user's input can cause."""

# A name or a value that a user's file holds may be as long as the file.
PART_LENGTH = 400


class InputError(ValueError):
    """Something in the user's input is wrong: `where` names the file or key, `what` the fault, `remedy` what to do.

    The message is one line: line breaks and control characters become blanks, and long parts are cut.
    """

    def __init__(self, where: object, what: str, remedy: str) -> None:
        self.where, self.what, self.remedy = (one_line(str(part)) for part in (where, what, remedy))
        super().__init__(f"{self.where}: {self.what}. {self.remedy}")


def one_line(text: str, length: int = PART_LENGTH) -> str:
    """Text in one line that can be printed in any encoding that Python writes, at most `length` characters."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    line = " ".join(printable.split())
    return line if len(line) <= length else f"{line[: length // 2]} ... {line[-length // 3 :]}"
