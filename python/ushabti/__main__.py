"""``python -m ushabti`` is the command ``ushabti``."""

import sys

from ushabti.cli import main

if __name__ == "__main__":
    sys.exit(main())
