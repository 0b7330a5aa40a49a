"""Where a server is in its life."""

import enum

__all__ = ["Phase"]


class Phase(enum.Enum):
    """It only goes forward."""

    NEW = enum.auto()
    STARTING = enum.auto()
    RUNNING = enum.auto()
    STOPPING = enum.auto()
    STOPPED = enum.auto()
