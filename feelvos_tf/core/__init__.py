"""Shared by all packages: command lines, errors, gin settings, atomic files, constants."""
