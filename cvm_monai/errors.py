"""The exception that this package raises on purpose: its message is a sentence for the user."""


class CvmError(ValueError):
    """Something that the user gave, or a file or server that was found, cannot be used; the message says what to do.

    Commands and the bundle's scripts print the message and end with exit code 2. Any other exception is a mistake of
    the program, or one of the operating system's (`OSError`). It is a `ValueError`, so that libraries which expect one
    from a function that they call, such as argparse, treat it as such.
    """
