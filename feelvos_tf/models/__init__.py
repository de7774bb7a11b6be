"""The network: backbone, decoder, embedding, matching, segmentation head."""
