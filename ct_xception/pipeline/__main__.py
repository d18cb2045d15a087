"""`accelerate launch -m ct_xception.pipeline …`: train_hf.py for whoever has the package and not the repository."""

import sys

from ct_xception.pipeline.run import main

if __name__ == "__main__":
    sys.exit(main())
