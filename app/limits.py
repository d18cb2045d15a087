"""What one visitor may ask of the page, and how long anything of theirs is kept."""

from __future__ import annotations

MAX_FILE = "256mb"  # one upload: a zipped series of 400 slices
MAX_QUEUE = 32  # visitors waiting; the next is told that the queue is full
KEPT_SECONDS = 10 * 60  # uploads, answers and downloads; then they are deleted
SWEEP_SECONDS = 60  # how often that is looked after
LONGEST_SECONDS = 300  # one job, such as a series or a map's evidence
SHOWN_SIDE = 1024  # pixels of the longer side on the page; the network sees the file, not this
