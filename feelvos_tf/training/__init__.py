"""Trains the network on batches of clips."""
