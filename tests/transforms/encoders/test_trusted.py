"""An encoder that a root names is imported only where whoever runs the command trusts it."""

import pytest

from transforms.encoders import trusted
from transforms.errors import UsageError

STRANGER = "os:abort"


@pytest.mark.parametrize("spec", ["demo", "open_clip:ViT-B-32/openai", "timm:resnet50", "open_clip:ViT-B-32@/w.pt"])
def test_encoders_of_known_kinds_need_no_trust(spec: str) -> None:
    trusted.check(spec, None)


def test_a_class_is_refused_with_both_ways_to_trust_it() -> None:
    with pytest.raises(UsageError, match=r"os:abort.*--encoder os:abort.*PIXDEX_TRUSTED_ENCODERS=os:abort"):
        trusted.check(STRANGER, None)


def test_the_command_line_may_name_it() -> None:
    trusted.check(STRANGER, STRANGER)


def test_the_command_line_may_name_no_other() -> None:
    with pytest.raises(UsageError, match="--encoder demo is not the encoder of this root, which is os:abort"):
        trusted.check(STRANGER, "demo")


@pytest.mark.parametrize("value", ["os:abort", "os", "my.module, os:abort", "a:B,os"])
def test_the_environment_may_list_it_or_its_module(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(trusted.VARIABLE, value)

    trusted.check(STRANGER, None)


@pytest.mark.parametrize("value", ["", "o", "os:abort2", "os:", "*", "os.path"])
def test_nothing_else_in_the_environment_is_trust(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(trusted.VARIABLE, value)

    with pytest.raises(UsageError):
        trusted.check(STRANGER, None)
