"""The card: values of a checkpoint's own files, and templates that say them."""
