"""What the library raises for input that the user can correct."""


class InputError(ValueError):
    """Input the user can correct. The message is one line: the file, the value, the fix."""
