"""The library that analyses are written with, ours and a stranger's alike."""
