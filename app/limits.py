"""What one visitor may ask of the page, and how long anything of theirs is kept."""

from __future__ import annotations

MAX_FILE = 256 * 2**20  # bytes of one upload: a zipped series of 400 slices
MAX_QUEUE = 32  # visitors waiting; the next is told that the queue is full
KEPT_SECONDS = 10 * 60  # uploads, answers and downloads; then they are deleted
SWEEP_SECONDS = 60  # how often that is looked after
LONGEST_SECONDS = 300  # one job, such as a series or a map's evidence
DECODERS = 2  # processes that read files: one hostile file does not hold up the others
SHOWN_SIDE = 1024  # pixels of the longer side on the page; the network sees the file, not this

# Requests that do not come, or too many of them
HEADER_SECONDS = 5.0  # until a request's headers are there
GRACE_SECONDS, LEAST_RATE = 5.0, 32 * 2**10  # a body comes at so many bytes a second, after so long
UPLOADS = 128  # bodies on their way; of more, the slowest ones are ended
MOST_BODY = 192 * 2**20  # bytes of a body that is no upload: twice what the inference route takes, and base64
KEPT_BYTES = 4 * 2**30  # of uploads, kept and on their way
WAITING_CONNECTIONS, CONNECTIONS = 256, 768  # without a request yet; all of them
CLIENT_REQUESTS = 256  # of one address, at a time
STUCK_SECONDS = 120.0  # an answer that takes longer is not healthy
