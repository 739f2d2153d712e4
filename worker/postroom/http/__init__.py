"""What the HTTP servers of all programs share."""
