"""The one exception that a user's input can cause."""


class InputError(ValueError):
    """Something in the user's input is wrong: `where` names the file or key, `what` the fault, `remedy` what to do."""

    def __init__(self, where: object, what: str, remedy: str) -> None:
        self.where, self.what, self.remedy = str(where), what, remedy
        super().__init__(f"{self.where}: {what}. {remedy}")
