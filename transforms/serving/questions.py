"""What is asked over HTTP and what is answered, as types: they check requests, and `/openapi.json` is made of them."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from transforms.errors import UsageError
from transforms.search.hits import Hit

MOST_LETTERS: Final = 10_000
"""Of a text; longer ones are no queries, and encoders read but their beginning."""

MOST_NUMBERS: Final = 1 << 16
"""Of a vector."""

_Text = Annotated[str, Field(max_length=MOST_LETTERS)]


class Question(BaseModel):
    """One search: exactly one of `text`, `image`, `vector` and `key`, and what is wanted of its results."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: _Text | None = Field(None, description="words that describe what is looked for")
    image: str | None = Field(None, description="the file of a picture that it looks like, in base64")
    vector: Annotated[list[float], Field(max_length=MOST_NUMBERS)] | None = Field(
        None, description="a vector in the space of the root's encoder"
    )
    key: _Text | None = Field(None, description="the key of an item that it is like, as results name it")
    k: int = Field(10, description="results wanted")
    offset: int = Field(0, description="so many of the nearest are passed over; ranks count them")
    where: _Text | None = Field(None, description="a condition over metadata, in SQL, as of pixdex search")
    modality: Literal["image", "text", "keyword", "any"] | None = Field(None, description="what may be found")
    min_score: float | Literal["auto"] | None = Field(None, description="nothing that is less near is shown")
    minus: Annotated[list[_Text], Field(max_length=16)] = Field([], description="texts that it is to be less of")
    group_by: _Text | None = Field(None, description="a column: of rows with the same in it one is shown")
    per_group: int = Field(1, description="so many of each group are shown")
    dedup: float | Literal["content"] | None = Field(None, description="what is as near to a result is not shown")

    def check(self, most: int) -> None:
        """Refuses what cannot be asked together, and more than so many results.

        Raises:
            UsageError: naming it.
        """
        given = [name for name in ("text", "image", "vector", "key") if getattr(self, name) is not None]
        if len(given) != 1:
            raise UsageError(f"give one of text, image, vector and key, not {' and '.join(given) or 'none'}")
        if self.k < 1 or self.offset < 0:
            raise UsageError(f"k is {self.k} and offset {self.offset}: take 1 or more, and 0 or more")
        if self.k + self.offset > most:
            raise UsageError(f"k + offset is {self.k + self.offset}: this server answers with {most} results at most")


class Answer(BaseModel):
    """The results of one search, nearest first, and the generation that they are of."""

    generation: int
    results: list[Hit]


class About(BaseModel):
    """What is searched, and what this server takes."""

    generation: int
    items: int
    vectors: int
    images: int
    texts: int
    keywords: int
    encoder: str | None = Field(description="null: vectors and keys are taken only")
    takes: list[str] = Field(description="of text and image those that can be asked with")
    scores: str = Field(description="cosine, inner product, squared distance or L1 distance")
    upload_bytes: int
    results: int = Field(description="that an answer may have")


class Health(BaseModel):
    """How the server is: `stale` answers from a generation that is not the newest, which `problem` says why."""

    status: Literal["ok", "stale"]
    generation: int
    newest: int
    problem: str | None


class Refusal(BaseModel):
    """Why there is no answer, on one line."""

    error: str
