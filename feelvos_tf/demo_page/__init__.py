"""A web page for painting masks and propagating them through a clip: see README.md."""
