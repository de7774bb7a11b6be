"""Inference: a video and its first mask in, masks of every frame out."""
