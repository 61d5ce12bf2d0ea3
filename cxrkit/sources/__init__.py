"""Sources: images and archives as they were downloaded, read as bytes and decoded as pixels."""
