"""What a letter is."""
