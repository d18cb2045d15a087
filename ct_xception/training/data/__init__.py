"""What the network is fed: decoded slices, their batches, and the corpora that it saw before."""
