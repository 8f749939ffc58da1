"""How many examples a property is tried with: the profile says, a test says at most how dear one of them is.

    HYPOTHESIS_PROFILE=thorough python -m pytest tests/transforms/index

- `quick`, the default: what a developer waits for
- `ci`, the default where `CI` is set: more of the same
- `thorough`: by hand, for hours; new examples every time, and a failing one is kept in `.hypothesis`

The first two try the same examples every time, so that a failure is the work of the change that is tried; finding what
nobody looked for is what `thorough` is for. No profile has a deadline, and none minds slow examples: how long one takes
says how busy the machine is. A test's fixtures are shared by its examples, each of which makes what it changes.
"""

import os

from hypothesis import HealthCheck, Phase, settings

_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])

settings.register_profile("quick", _COMMON, max_examples=40, derandomize=True)
settings.register_profile("ci", _COMMON, max_examples=60, derandomize=True)
settings.register_profile("thorough", _COMMON, max_examples=1000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "quick"))

_PROFILE = settings()

cheap = settings(max_examples=_PROFILE.max_examples * 10)
"""For properties whose examples take less than a millisecond."""

dear = settings(max_examples=_PROFILE.max_examples // 3)
"""For properties whose examples take a fifth of a second."""

costly = settings(max_examples=_PROFILE.max_examples // 15, phases=set(Phase) - {Phase.shrink, Phase.explain})
"""For properties whose examples take seconds: a failing one is shown as it is, since shrinking would take an hour."""
