"""FEELVOS in TensorFlow 2: fast end-to-end embedding learning for video object segmentation."""

__version__ = "0.1.0"
