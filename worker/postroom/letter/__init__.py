"""What a letter is: events, templates, profiles, and the way from data to MIME. Pure; shared by both halves."""
