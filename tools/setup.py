"""``make setup``: finds a Python that is new enough and hands over to :mod:`tools.environment`.

This file is read by whatever ``python3`` is, so its syntax stays that of Python 3.6.
"""

import os
import subprocess
import sys

OLDEST = (3, 11)
NEWER = ("python3.14", "python3.13", "python3.12", "python3.11")


def hand_over() -> None:
    """Starts this command again with a newer interpreter, or ends with a message."""
    for name in NEWER:
        try:
            # A version manager's shim may be on PATH for a version that is not installed.
            works = subprocess.call([name, "-c", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
        except OSError:
            continue
        if works:
            os.execvp(name, [name, "-m", "tools.setup", *sys.argv[1:]])
    sys.exit(
        f"setup: Python {OLDEST[0]}.{OLDEST[1]} or newer is needed; {sys.executable} is "
        f"{sys.version_info[0]}.{sys.version_info[1]}, and none of {', '.join(NEWER)} is on PATH.\n"
        "       Install one, or name it: make setup PYTHON=/path/to/python3.12"
    )


if __name__ == "__main__":
    if sys.version_info < OLDEST:
        hand_over()
    from tools.environment import main

    main()
