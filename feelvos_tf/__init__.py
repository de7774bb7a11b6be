"""FEELVOS in TensorFlow 2: fast end-to-end embedding learning for video object segmentation."""

import os

__version__ = "0.1.0"

# Before TensorFlow is imported: its start-up lines about missing GPUs drown what a user must read.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
