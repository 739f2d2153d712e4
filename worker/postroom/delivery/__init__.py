"""The delivery pipeline: parse → render → claim → send → settle. Start reading at `pipeline`."""
