"""What keeps a program on this machine from working, said so that a person can act on it.

Bad input is `Rejected`; trouble is the machine's: a port, a folder, a missing toolchain, a broker that
does not answer. The command line prints it as two lines and ends with exit code 1, never a traceback.
"""


class UserError(Exception):
    """`what` is wrong, and the `remedy`: what to do about it, as a sentence or a command."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}\n{remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy
