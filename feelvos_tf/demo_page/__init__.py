"""A page on which masks are painted and propagated through a clip: see README.md."""
