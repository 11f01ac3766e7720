"""The errors of the product: one root, and under it whose fault it is."""


class ApplianceError(Exception):
    """Root of every error that this package raises on purpose."""


class OperatorError(ApplianceError):
    """Something that the person who runs the node can mend; its text is one plain sentence that says how."""


class ConfigurationError(OperatorError, ValueError):
    """A configuration file that can't be used; the text names the file, the key and what is allowed."""


class StateError(OperatorError, OSError):
    """A state folder that can't be read or written, or whose content is damaged; the text names the file."""


class RemoteError(ApplianceError, ValueError):
    """A peer sent something that breaks the protocol.

    Attributes:
        reason: what was wrong, in words that may be logged (never content of the message).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
