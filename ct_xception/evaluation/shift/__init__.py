"""What figures come to elsewhere: on other corpora, and on pictures that were changed as other scanners would."""
