"""The tests that are there, by name: what tables of proofs are held against."""

import ast
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent


@cache
def tests_of(path: str) -> frozenset[str]:
    """The functions of a file under tests/."""
    tree = ast.parse((TESTS / path).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, functions))


def is_there(proof: str) -> bool:
    """Whether `file::name` is a test."""
    path, _, name = proof.partition("::")
    return name in tests_of(path)
