"""What an XPath finds in an XML file."""

from __future__ import annotations

from pathlib import Path

from safepy.config.xpath import select
from safepy.special.usage import USAGE_CODE as USAGE_CODE
from safepy.special.usage import WrongUsage

HELP = """
Usage: xpathGet XPATH FILE

Prints what XPATH finds in FILE, one result a line: the value of an attribute, the text of an
element, a number, true or false. Nothing is printed when nothing is found.

Exit code: 0, also when nothing is found; 1 when the file or the expression cannot be read; 2 for
wrong usage.

Example: xpathGet "//user/var[@name='SERVICES']/@value" "$SAFEUSERCONF/safeconf.xml"
"""
FILE_BYTES_MAX = 16 << 20


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        raise WrongUsage("an expression and a file are needed")
    expression, file = arguments
    with Path(file).open("rb") as source:
        data = source.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise WrongUsage(f"{file} is longer than {FILE_BYTES_MAX} bytes")
    for each in select(data, expression, file):
        print(each)
    return 0
