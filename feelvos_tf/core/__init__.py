"""Shared by all rooms: command lines, errors, gin settings, atomic files, constants."""
