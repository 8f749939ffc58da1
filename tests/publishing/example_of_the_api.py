"""The example of pipelines/README.md, word for word: mypy reads it, strictly, and tests run it."""

import pixdex


def best(root: pixdex.Root, text: str, below: float) -> list[tuple[str, float]]:
    """The five best of what is in stock, nothing rather than nonsense."""
    hits: list[pixdex.Hit] = root.search(text, k=5, where=f"price < {below:g}", min_score=0.1)
    return [(hit.key, hit.score) for hit in hits]


with pixdex.open("./shop") as root:
    try:
        print(root.generation, best(root, "a red circle", 50))
    except pixdex.UsageError as error:
        print(error)
    if root.refresh():
        print("another generation answers now")
    table = root.search_many(["a red circle", "two stars"], k=3)
    print(table.column("key").to_pylist())
