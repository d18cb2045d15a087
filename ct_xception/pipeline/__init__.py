"""The pipeline: a corpus becomes a checkpoint, stage by stage, each reading what the one before left on disk."""
