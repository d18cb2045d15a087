"""Corpus in, Hub-ready checkpoint out: load, audit, split, train, calibrate, fit the gate, evaluate, card, seal.

    accelerate launch train_hf.py --corpus DIR --weights hub
    accelerate launch train_hf.py --corpus phantom --weights none --output_dir runs/phantom --resume auto
    accelerate launch train_hf.py … --resume auto --protocols published deduplicated grouped --only_fold 3

The last one trains the third fold of a cross-validation alone. Without --only_fold the folds that are missing are
trained one after another, also for a run that is complete, and the checkpoint is then evaluated anew.

    accelerate launch train_hf.py --init USER/REPO --corpus NEW --replay OLD

That goes on from a checkpoint, and ends with a new version only where no test, old or new, got worse.

--push_to_hub USER/REPO publishes the checkpoint; whether it may is asked before anything slow begins.

Every stage leaves its result in the run folder; --help lists the options. The process ends with 0 when done, 1 when
training failed, 2 on bad input or usage, 130 when interrupted; `accelerate launch` itself turns every failure into 1.
"""

import sys

from ct_xception.pipeline.run import main

if __name__ == "__main__":
    sys.exit(main())
