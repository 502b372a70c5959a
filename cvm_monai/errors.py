"""The exception for invalid input; its message is a sentence for the user."""


class CvmError(ValueError):
    """Raised for input, a file or a server that cannot be used; the message says what to do.

    Commands and the bundle's scripts print the message and end with exit code 2. Any other exception is a fault of
    the program, or an error of the operating system (`OSError`). It is a `ValueError`, so that libraries that expect
    one from functions that they call, such as argparse, handle it.
    """
