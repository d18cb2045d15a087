"""What an evaluation shows: its figures, and the page of its errors."""
