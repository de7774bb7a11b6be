"""The backbones: an image in, low-level and deep features out."""
