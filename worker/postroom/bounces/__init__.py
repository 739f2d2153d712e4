"""The bounce intake: a mail server for the return paths, which stores reports in the ledgers."""
