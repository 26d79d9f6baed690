"""The errors a user is shown as one message, without a traceback."""


class InputError(Exception):
    """What the user gave cannot be used: says what is wrong, where, and what to do (exit code 2)."""


class RunFailed(Exception):
    """The run itself failed, with input that was fine: NaN, a full disk (exit code 1)."""
