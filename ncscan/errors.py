"""What can go wrong for a user, one class per kind, and the reason a measure has no value.

Every `NcscanError` is one clear line: what is wrong, where (file, layer), what to do. It is caught once, in
cli.py, and becomes that line and an exit code. Anything else that is raised is a bug and keeps its traceback.
"""


class NcscanError(Exception):
    """A problem the user can act on; its text is the line they read."""

    exit_code = 1


class UsageError(NcscanError):
    """The command line or an ncscan.toml asks for something that does not exist or does not fit."""

    exit_code = 2


class RefusedPlan(NcscanError):  # noqa: N818 - a refusal, in the words of the command line
    """What was asked is understood but must not start: no room on the disk, other results in the way."""

    exit_code = 2


class CheckpointError(NcscanError):
    """A checkpoint file that cannot be read, or must not be."""


class ModelError(NcscanError):
    """A model that cannot be built, or that the checkpoint does not fit."""


class DataError(NcscanError):
    """Samples or labels that cannot be used."""


class TapError(NcscanError):
    """A forward pass that cannot be followed."""


class DumpError(NcscanError):
    """A dump that cannot be read, or must not be."""


class ReportError(NcscanError):
    """A report that cannot be read."""


class Undefined(Exception):  # noqa: N818 - it is an answer, not a failure
    """A measure that has no value here; its text says why and stands in the table in place of the value."""
