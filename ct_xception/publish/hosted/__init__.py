"""What the Hub runs of a checkpoint: an endpoint's handler, the Space, and the page in a visitor's browser."""
