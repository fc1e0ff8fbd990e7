"""The one exception that is meant for the user's eyes."""


class UserError(Exception):
    """Something the user can put right; its text is a sentence that says what to do.

    The command line prints the text alone, without a traceback, and exits with code 2.
    """
