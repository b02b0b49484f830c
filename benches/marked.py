"""Parts of a file between marks such as <!-- NAME:start --> and <!-- NAME:end -->."""


def replace(path, name, text):
    """Puts text in the place of the part called name."""
    with open(path) as file:
        whole = file.read()
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    head, rest = whole.split(start)
    tail = rest.split(end)[1]
    with open(path, "w") as file:
        file.write(f"{head}{start}\n{text}\n{end}{tail}")
