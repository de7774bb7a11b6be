"""Reads and writes masks, pictures and videos; draws overlays."""
