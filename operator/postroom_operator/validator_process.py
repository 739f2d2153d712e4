"""The prover's other side: a process that proves what it is sent, and dies where its parent must not.

Input: questions on standard input, each a length (4 bytes) and JSON: `{"template": …, "layout": …}`, the
objects as the API server gives them; without a template the layout alone is asked about. Output: an empty
answer when ready, then one answer to each question in order, framed in the same way. Memory and the CPU
time of one proof are bounded by the kernel: the process ends, and its parent says of which question.
"""

import contextlib
import json
import resource
import sys
import time
from typing import Any

from postroom.framing import read_frame, write_frame
from postroom.letter.language.bounds import Clocks
from postroom.letter.language.environment import compile_source
from postroom.letter.manifest import parse_object
from postroom.letter.problems import Code, Problem, Severity
from postroom.letter.template import EmailLayout, EmailTemplate
from postroom.letter.validation.validate import TemplateValidation, validate_layout, validate_template
from postroom_operator.models import SampleSizes, ValidationResult
from postroom_operator.validation import CPU_SECONDS, MEMORY_BYTES, result_to_json

ValidationRequest = dict[str, Any]


def main() -> None:
    """Serve until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    with contextlib.suppress(BrokenPipeError):  # the operator is gone
        write_frame(sys.stdout.buffer, b"")
        while (question := read_frame(sys.stdin.buffer)) is not None:
            _allow_cpu()
            write_frame(sys.stdout.buffer, json.dumps(validate_request(json.loads(question))).encode())
            compile_source.cache_clear()  # a tenth of all memory, and not needed again


def validate_request(question: ValidationRequest) -> dict[str, Any]:
    """Prove what is asked, as plain JSON."""
    try:
        return result_to_json(_validate(question))
    except (MemoryError, RecursionError) as error:
        message = f"the proof needs more than it may have ({type(error).__name__}); make the template simpler"
        return result_to_json(ValidationResult(problems=(Problem(Code.RENDER_LIMIT, "spec", message),)))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this template's and nobody else's
        message = f"the proof broke off: {type(error).__name__}: {error}. This is a mistake of Postroom's"
        return result_to_json(ValidationResult(problems=(Problem(Code.RENDER_FAILED, "spec", message),)))


def _validate(question: ValidationRequest) -> ValidationResult:
    layout, template = question.get("layout"), question.get("template")
    page = None
    if layout is not None:
        page, problems, _ = parse_object(layout, "EmailLayout")
        if template is None:
            return (
                _result_of(validate_layout(page))
                if isinstance(page, EmailLayout)
                else ValidationResult(problems=problems)
            )
    model, problems, _ = parse_object(template or {}, "EmailTemplate")
    if not isinstance(model, EmailTemplate):
        return ValidationResult(problems=problems)
    clocks = Clocks(time.monotonic, time.process_time)
    return _result_of(validate_template(model, page if isinstance(page, EmailLayout) else None, clocks))


def _result_of(proof: TemplateValidation) -> ValidationResult:
    samples = tuple(
        SampleSizes(each.name, each.locale, each.html_bytes, each.text_bytes) for each in proof.samples
    )
    # an info asks for nothing, so that a status leaves it to `postroom check`
    warnings = tuple(each for each in proof.warnings if each.severity is Severity.WARNING)
    return ValidationResult(proof.compiled, proof.problems, warnings, samples)


def _allow_cpu() -> None:
    """Grant the next proof its time, on top of what the process used already."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + CPU_SECONDS + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
