"""What a Python session touches: a checkpoint that takes whatever is at hand, and answers that show themselves."""
