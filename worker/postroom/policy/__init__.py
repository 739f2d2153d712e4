"""Pure decision tables: values in, decision out; time and random numbers are arguments."""
