"""Files that show one picture, or one patient."""
