"""The exceptions that mean "the user can fix this"."""

DISK_FULL = "the disk is full"  # in the message of every DiskFull: whoever only has a process's output knows it by that


class UserError(ValueError):
    """A mistake or a damaged input that the user can repair.

    The message names the file or flag, says what was found and what was expected, and ends with the remedy.
    The command line prints it without a traceback and exits with 2; any other exception is our own bug (exit 1).
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        """Join `message` and `remedy` (one imperative sentence) into the text that is shown."""
        message, remedy = (shown(text, keep="\n") for text in (message, remedy))
        self.what = message
        self.remedy = remedy
        super().__init__(f"{message}\n  remedy: {remedy}" if remedy else message)

    def __reduce__(self) -> tuple[object, ...]:
        """Keep message and remedy apart in a worker's answer, too."""
        return _again, (type(self), self.what, self.remedy)


class DiskFull(UserError):  # noqa: N818 (it says what the disk is)
    """A file could not be written because there is no room; what was finished before is kept."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with a line that says what is kept and how to go on."""


def _again(kind: type[UserError], what: str, remedy: str) -> UserError:
    return kind(what, remedy=remedy)


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
