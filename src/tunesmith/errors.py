"""The one exception a user may see. Everything else that escapes is a bug."""


class UserError(Exception):
    """Bad input, explained: where it is, what was found, and how to fix it.

    The command line prints ``what`` and ``fix`` without a traceback and exits with ``exit_code``
    (2: usage; 3: could not be measured).
    """

    def __init__(self, what: str, fix: str, exit_code: int = 2) -> None:
        super().__init__(f"{what}\n  fix: {fix}")
        self.what = what
        self.fix = fix
        self.exit_code = exit_code
