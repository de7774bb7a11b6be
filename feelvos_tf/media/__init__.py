"""Pixels on disk and back: masks, pictures, videos, overlays."""
