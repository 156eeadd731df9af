"""Where the encoder puts the points."""
