"""One file format each: what a file says of itself is checked, then its pixels are decoded."""
