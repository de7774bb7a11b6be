"""The HTML report of scores, one self-contained file."""
