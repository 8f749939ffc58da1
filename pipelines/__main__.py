"""`python -m pipelines` is `pixdex`."""

from pipelines.cli import main
from pipelines.terminal import process

if __name__ == "__main__":
    process.run(main)
