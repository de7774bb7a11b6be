"""From folders and records to training batches."""
