"""What comes back about letters: reports of mail systems, read into facts."""
