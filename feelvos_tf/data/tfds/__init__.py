"""The data sets for TensorFlow Datasets, and records that it has prepared."""
