"""Xception as a transformers PreTrainedModel."""
