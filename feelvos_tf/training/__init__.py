"""Learns the weights of the network from batches of training clips."""
