"""From a record's bytes to the fields of an event: strict JSON, the envelopes, each field's form."""
