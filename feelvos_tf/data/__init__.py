"""Turns folders of frames and masks into records, and records into training batches."""
