"""A search of hyperparameters, and the space that it walks."""
