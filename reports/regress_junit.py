"""A regression run as JUnit XML: a test case for each case and each step log.

There are no times in it: the same run gives the same bytes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from .regress_rows import change_sentence, sorted_changes

if TYPE_CHECKING:
    from ..sim.regress.compare import Comparison
    from ..sim.regress.run import Conformed, Regression

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(regression: Regression) -> bytes:
    """The document, UTF-8."""
    suites = ElementTree.Element("testsuites", name="kvsim regress")
    name = _text(regression.suite.name)
    total = len(regression.cases) + len(regression.conformed)
    numbers = {"tests": total, "failures": regression.num_failed, "errors": 0, "skipped": 0}
    counted = {key: str(value) for key, value in numbers.items()}
    suites.attrib.update(counted)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": name, **counted})
    for case in regression.cases:
        _add_case(suite, name, case)
    for one in regression.conformed:
        _add_step_log(suite, name, one)
    ElementTree.indent(suites)
    data: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return data + b"\n"


def _add_case(suite: ElementTree.Element, name: str, case: Comparison) -> None:
    entry = _entry(suite, f"{name}.case", case.case)
    lines = [change_sentence(change) for change in sorted_changes(case)]
    lines += [f"Note: {note}." for note in case.notes if case.changes]
    if case.failures:
        what = f"{len(case.failures)} of {case.num_metrics} metrics fail"
        message = f"{what}; {change_sentence(sorted_changes(case)[0])}"
        _add_failure(entry, message, "\n".join(lines))
    elif lines:
        ElementTree.SubElement(entry, "system-out").text = _text("\n".join(lines))


def _add_step_log(suite: ElementTree.Element, name: str, one: Conformed) -> None:
    entry = _entry(suite, f"{name}.conformance", one.name)
    if one.outcome.differs:
        _add_failure(entry, one.message.partition(":\n")[0], one.message)


def _entry(suite: ElementTree.Element, group: str, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=group, name=_text(name))


def _add_failure(entry: ElementTree.Element, message: str, text: str) -> None:
    failure = ElementTree.SubElement(entry, "failure", message=_text(message), type="regression")
    failure.text = _text(text)


def _text(value: str) -> str:
    """Without the signs that XML cannot hold."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", value)
