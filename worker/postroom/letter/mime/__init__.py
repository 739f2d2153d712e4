"""MIME: the rules of attachments and headers, and the bytes of a letter."""
