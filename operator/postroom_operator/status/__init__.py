"""What was observed → the status of a template, layout or profile. Pure; time is an argument."""
