"""What is drawn or written on a slice that is not the patient."""
