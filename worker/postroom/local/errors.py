"""The error for what a person at this machine has to fix.

Invalid input is `Rejected`; a `UserError` is about the machine: a port, a folder, a missing toolchain, a
broker that does not answer. The command line prints both parts and exits with code 1, without a traceback.
"""


class UserError(Exception):
    """A `problem`, and its `remedy`: what to do about it, as a sentence or a command."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}\n{remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy
