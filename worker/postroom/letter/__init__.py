"""What a letter is: events, templates, profiles, from data to MIME. Pure; shared by both halves."""
