"""`accelerate launch -m ct_xception.stages …`: train_hf.py for whoever has the package and not the repository."""

import sys

from ct_xception.stages.run import main

if __name__ == "__main__":
    sys.exit(main())
