"""Text of others in a Markdown page: on one line, and no border of a table."""


def cell(text: object) -> str:
    """The text as it may stand in a table or a sentence: line breaks spelled out, bars escaped."""
    return " ".join(str(text).replace("\n", "\\n").replace("|", "\\|").split())
