"""Where the patient is on a slice: the outline, the lungs, and the crop to the body."""
