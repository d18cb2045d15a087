"""`python -m ct_xception.cli`: the command of an environment whose bin folder is not at hand."""

import sys

from ct_xception.cli import main

if __name__ == "__main__":
    sys.exit(main())
