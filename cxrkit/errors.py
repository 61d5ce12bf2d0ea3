"""The one exception that means "the user can fix this"."""


class UserError(ValueError):
    """A mistake or a damaged input that the user can repair.

    The message names the file or flag, says what was found and what was expected, and ends with the remedy.
    The command line prints it without a traceback and exits with 2; any other exception is our own bug (exit 1).
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        """Join `message` and `remedy` (one imperative sentence) into the text that is shown."""
        self.remedy = remedy
        super().__init__(f"{message}\n  remedy: {remedy}" if remedy else message)
