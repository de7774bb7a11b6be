"""A page to paint masks on and to see them followed through a clip: see README.md."""
