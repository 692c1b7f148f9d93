"""The exception for faults in the user's input."""


class InputError(ValueError):
    """A fault in the user's input, shown as a message of one line.

    Attributes:
        where: file or config key with the fault.
        what: the fault.
        remedy: what the user can do.
    """

    def __init__(self, where: object, what: str, remedy: str) -> None:
        self.where, self.what, self.remedy = str(where), what, remedy
        super().__init__(f"{self.where}: {what}. {remedy}")
