"""What a man page shows as literal text, taken out of its source.

A block (.Bd -literal) or a line (.Dl) is a Snippet when a comment right before it says
of what kind it is,

    .\\" snippet KIND [NAME]

and in a section EXAMPLES without one, too: then it is of the kind `shell`.
"""

import glob
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MARK = re.compile(r'\.\\" snippet (\w+)(?: (\S+))?$')
ESCAPES = {"\\e": "\\", "\\(dq": '"', "\\(aq": "'", "\\&": "", "\\-": "-", "\\(ti": "~",
           "\\(ha": "^"}


class Snippet:
    """kind, name ("" for none), text, and where it stands: page, section, line."""

    def __init__(self, page, section, line, kind, name, text):
        self.page, self.section, self.line = page, section, line
        self.kind, self.name, self.text = kind, name, text

    def __repr__(self):
        return "%s:%d (%s)" % (self.page, self.line, self.kind)


def plain(text):
    """As it is shown: without roff's escapes."""

    def one(match):
        if match.group() not in ESCAPES:
            raise ValueError("an escape that is not known: %r" % match.group())
        return ESCAPES[match.group()]

    return re.sub(r"\\(\(..|.)", one, text)


def pages():
    """{name: source} of all pages."""
    out = {}
    for path in sorted(glob.glob(os.path.join(ROOT, "man", "*.[1-8]"))):
        with open(path, encoding="utf-8") as f:
            out[os.path.basename(path)] = f.read()
    return out


def _snippets_of(page, source):
    section, mark, block = "", None, None
    for number, line in enumerate(source.splitlines(), 1):
        if block is not None:
            if line != ".Ed":
                block.text += line + "\n"
                continue
            if block.kind:
                block.text = plain(block.text)
                yield block
            block = None
        elif line.startswith(".Sh "):
            section = line[4:].strip()
        elif line.startswith(".Bd -literal") or line.startswith(".Dl "):
            kind, name = mark or ("shell" if section == "EXAMPLES" else None, "")
            found = Snippet(page, section, number, kind, name or "", "")
            if line.startswith(".Bd"):
                block = found
            elif kind:
                found.text = plain(line[4:]) + "\n"
                yield found
        match = MARK.match(line)
        mark = match.groups() if match else None


def snippets(*kinds):
    """All snippets of these kinds, or of every kind."""
    return [s for page, source in pages().items() for s in _snippets_of(page, source)
            if not kinds or s.kind in kinds]


def conf_settings(text):
    """A wscast.conf as {section: {key: value or list of values}}, for harness.Daemon."""
    out, section = {}, None
    for line in text.splitlines():
        line = re.sub(r"(^|\s);.*|^#.*", "", line).strip()
        if line.startswith("["):
            section = out.setdefault(line[1:-1], {})
        elif line:
            key, value = (part.strip() for part in line.split("=", 1))
            section[key] = ([*section[key], value] if isinstance(section.get(key), list)
                            else [section[key], value] if key in section else value)
    return out
