"""The errors of the product: one root, and under it whose fault it is."""

import errno


class ApplianceError(Exception):
    """Root of every error that this package raises on purpose."""


class OperatorError(ApplianceError):
    """Something that the person who runs the node can mend; its text is one plain sentence that says how."""


class ConfigurationError(OperatorError, ValueError):
    """A configuration file that can't be used; the text names the file, the key and what is allowed."""


class StateError(OperatorError, OSError):
    """A state folder that can't be read or written, or whose content is damaged; the text names the file."""


class DiskFullError(StateError):
    """A state folder has no space, or its quota is used up: what ends by itself when somebody makes some."""

    @staticmethod
    def is_told_by(error: OSError) -> bool:
        """Tell whether the system reported this."""
        return error.errno in (errno.ENOSPC, errno.EDQUOT)


class RemoteError(ApplianceError, ValueError):
    """A peer sent something that breaks the protocol.

    Attributes:
        reason: what was wrong, in words that may be logged (never content of the message).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
