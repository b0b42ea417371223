"""A clock that a test sets."""


class Clock:
    """Stands for `time.monotonic`; begins at a time that is not 0."""

    now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now
