"""Data set builders for TensorFlow Datasets, and access to data sets prepared with it."""
