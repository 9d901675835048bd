"""What the library raises for input that the user can mend."""


class InputError(ValueError):
    """Input the user can mend. The message is one line: the file, the value, the fix."""
