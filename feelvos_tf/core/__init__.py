"""What every room uses: command lines, errors, gin settings, files that appear whole, constants."""
