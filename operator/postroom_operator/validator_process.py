"""The child process of `validation`: validates what it is sent, and dies where its parent must not.

Input: frames on standard input, each with JSON: `{"template": …, "layout": …}`, the objects as the API server
returns them; without a template the layout alone is validated. Output: an empty frame when ready, then one
result for each request in order (`validation.result_to_json`). The kernel limits memory and the CPU time of
one validation: where a limit is exceeded the process ends, and its parent reports the template.
"""

import contextlib
import json
import resource
import sys
import time
from typing import Any

from postroom.isolated_process import read_frame, write_frame
from postroom.letter.language.bounds import Timers
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
        while (request := read_frame(sys.stdin.buffer)) is not None:
            _allow_cpu()
            write_frame(sys.stdout.buffer, json.dumps(validate_request(json.loads(request))).encode())
            compile_source.cache_clear()  # it would be a tenth of the memory, and no other template needs it


def validate_request(request: ValidationRequest) -> dict[str, Any]:
    """Validate the objects of a request; the result is plain JSON."""
    try:
        return result_to_json(_validate(request))
    except (MemoryError, RecursionError) as error:
        message = f"its validation exceeds its limits ({type(error).__name__}); make the template simpler"
        return result_to_json(ValidationResult(problems=(Problem(Code.RENDER_LIMIT, "spec", message),)))
    except Exception as error:  # noqa: BLE001 - the failure belongs to this template alone
        message = (
            f"its validation failed: {type(error).__name__}: {error}. This is an internal error of Postroom"
        )
        return result_to_json(ValidationResult(problems=(Problem(Code.RENDER_FAILED, "spec", message),)))


def _validate(request: ValidationRequest) -> ValidationResult:
    layout, template = request.get("layout"), request.get("template")
    layout_model = None
    if layout is not None:
        layout_model, problems, _ = parse_object(layout, "EmailLayout")
        if template is None:
            if not isinstance(layout_model, EmailLayout):
                return ValidationResult(problems=problems)
            return _result_of(validate_layout(layout_model))
    model, problems, _ = parse_object(template or {}, "EmailTemplate")
    if not isinstance(model, EmailTemplate):
        return ValidationResult(problems=problems)
    clocks = Timers(time.monotonic, time.process_time)
    return _result_of(
        validate_template(model, layout_model if isinstance(layout_model, EmailLayout) else None, clocks)
    )


def _result_of(validation: TemplateValidation) -> ValidationResult:
    samples = tuple(
        SampleSizes(sample.name, sample.locale, sample.html_bytes, sample.text_bytes)
        for sample in validation.samples
    )
    # severity INFO needs no action: `postroom check` shows it, a status does not
    warnings = tuple(warning for warning in validation.warnings if warning.severity is Severity.WARNING)
    return ValidationResult(validation.compiled, validation.problems, warnings, samples)


def _allow_cpu() -> None:
    """Allow CPU_SECONDS for the next validation, on top of what the process has used already."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + CPU_SECONDS + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
