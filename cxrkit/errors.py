"""The one exception that means "the user can fix this"."""


class UserError(ValueError):
    """A mistake or a damaged input that the user can repair.

    The message names the file or flag, says what was found and what was expected, and ends with the remedy.
    The command line prints it without a traceback and exits with 2; any other exception is our own bug (exit 1).
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        """Join `message` and `remedy` (one imperative sentence) into the text that is shown."""
        message, remedy = (shown(text, keep="\n") for text in (message, remedy))
        self.remedy = remedy
        super().__init__(f"{message}\n  remedy: {remedy}" if remedy else message)


def shown(text: object, *, keep: str = "") -> str:
    """Return `text` fit for a terminal: control characters, and what is left of bytes that are no UTF-8, as escapes.

    File names and cells of a table can hold anything, also what moves the cursor, clears the screen or cannot be
    encoded. The characters of `keep` stay.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in keep else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape", "backslashreplace").decode("ascii")
