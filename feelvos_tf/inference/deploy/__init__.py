"""Running a predictor elsewhere: TensorFlow Serving, TFLite, a Ray cluster."""
