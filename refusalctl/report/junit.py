"""Checks of a gate as JUnit XML, the form in which continuous integration shows tests.

One test suite with one test case per checked cell: a broken expectation is a `failure`, an undecided one an `error` of
type `undecided`. Elements and attributes are those of the schema of Ant's JUnit task, in its order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from xml.etree import ElementTree

from refusalctl.records.gate import GateCheck


def junit(checks: Sequence[GateCheck], about: Mapping[str, str], when: datetime) -> bytes:
    """The document; `about` becomes properties. The suite's time is 0: a gate reads what was measured before."""
    states = [each.state for each in checks]
    suite = ElementTree.Element(
        "testsuite",
        name="refusalctl gate",
        timestamp=when.strftime("%Y-%m-%dT%H:%M:%S"),
        hostname="localhost",  # the schema asks for one, and its word where none is told
        tests=str(len(checks)),
        failures=str(states.count("not met")),
        errors=str(states.count("undecided")),
        skipped="0",
        time="0",
    )
    listed = ElementTree.SubElement(suite, "properties")
    for name, value in about.items():
        ElementTree.SubElement(listed, "property", name=name, value=_clean(value))
    for each in checks:
        case = ElementTree.SubElement(
            suite, "testcase", name=each.expectation, classname=f"refusalctl.{each.question}", time="0"
        )
        if each.state != "met":
            tag, kind = ("failure", "verdict") if each.state == "not met" else ("error", "undecided")
            ElementTree.SubElement(case, tag, message=_clean(said(each)), type=kind).text = _clean(each.reason)
    ElementTree.SubElement(suite, "system-out")
    ElementTree.SubElement(suite, "system-err")
    ElementTree.indent(suite)
    body: bytes = ElementTree.tostring(suite, encoding="utf-8")
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + body + b"\n"


def said(check: GateCheck) -> str:
    """`en>de is inconclusive`, or that it was not measured."""
    return f"{check.source}>{check.target} " + (f"is {check.verdict!r}" if check.verdict else "has no verdict")


def _clean(text: str) -> str:
    """Without characters that no XML document can hold."""
    return "".join(
        c for c in text if c in "\t\n\r" or 0x20 <= ord(c) <= 0xD7FF or 0xE000 <= ord(c) <= 0xFFFD or ord(c) > 0xFFFF
    )
