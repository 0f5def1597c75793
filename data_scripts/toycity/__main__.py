"""python -m data_scripts.toycity OUT ..."""

import sys

from .files import main

if __name__ == "__main__":
    sys.exit(main())
