"""A logger as a user may have one."""

from typing import ClassVar


class Listing:
    """A logger that keeps what it gets; `made` has all of them, which a test empties first."""

    made: ClassVar = []

    def __init__(self, run):
        self.run, self.rows, self.closed = run, [], False
        Listing.made.append(self)

    def write(self, update, metrics):
        self.rows.append((update, metrics))

    def close(self):
        self.closed = True
