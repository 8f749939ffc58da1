"""Codebooks are k-means of every subspace."""

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from transforms.index.training.codebooks import train_codebooks


def error(books: NDArray[np.float32], residuals: NDArray[np.float32]) -> float:
    quantizer = faiss.ProductQuantizer(residuals.shape[1], len(books), 4)
    faiss.copy_array_to_vector(books.reshape(-1), quantizer.centroids)
    return float(((quantizer.decode(quantizer.compute_codes(residuals)) - residuals) ** 2).mean())


def test_they_are_as_good_as_those_of_faiss() -> None:
    residuals = np.random.default_rng(0).standard_normal((4000, 16)).astype(np.float32)
    reference = faiss.ProductQuantizer(16, 4, 4)
    reference.train(residuals)
    faiss_books = faiss.vector_to_array(reference.centroids).reshape(4, 16, 4)
    books = train_codebooks(residuals, 4, 4, 0)

    assert books.shape == (4, 16, 4)
    assert error(books, residuals) <= 1.02 * error(faiss_books, residuals)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_nothing(threads: int) -> None:
    residuals = np.random.default_rng(0).standard_normal((600, 8)).astype(np.float32)
    assert np.array_equal(train_codebooks(residuals, 4, 4, 0, 2), train_codebooks(residuals, 4, 4, 0, threads))
