"""Configurations: plain data that is checked, and alive."""

import copy
import dataclasses
import pickle
from datetime import timedelta

import pytest

from codomyrmex.service_mesh import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitState,
    ConfigError,
    CountWindow,
    TimeWindow,
)


def test_the_seeds_four_fields_come_first_with_the_seeds_defaults():
    assert [each.name for each in dataclasses.fields(CircuitBreakerConfig)][:4] == [
        "failure_threshold",
        "success_threshold",
        "timeout_seconds",
        "half_open_max_calls",
    ]
    config = CircuitBreakerConfig(7, 3, 1.5, 2)
    assert dataclasses.astuple(config)[:4] == (7, 3, 1.5, 2)
    assert dataclasses.astuple(CircuitBreakerConfig())[:4] == (5, 2, 30.0, 3)


def test_a_timedelta_is_as_good_as_seconds_and_reads_as_seconds():
    assert CircuitBreakerConfig(timeout_seconds=timedelta(minutes=1)).timeout_seconds == 60.0
    assert CountWindow(slow_call_ratio=1.0, slow_call_seconds=timedelta(seconds=2)).slow_call_seconds == 2.0
    assert TimeWindow(duration_seconds=timedelta(minutes=1), failure_ratio=0.5).duration_seconds == 60.0
    config = CircuitBreakerConfig()
    config.timeout_max_seconds = timedelta(hours=1)
    assert config.timeout_max_seconds == 3600.0


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("failure_threshold", 0, "failure_threshold is 0; allowed: 1 or more"),
        ("success_threshold", -1, "success_threshold is -1; allowed: 1 to 16777215"),
        ("half_open_max_calls", 2**70, f"half_open_max_calls is {2**70}; allowed: 1 to 16777215"),
        ("timeout_seconds", -1, "timeout_seconds is -1; allowed: a finite number of seconds, at least 0"),
        ("timeout_seconds", float("nan"), "timeout_seconds is NaN; allowed: a finite number of seconds, at least 0"),
        (
            "timeout_seconds",
            timedelta(-1),
            "timeout_seconds is -86400; allowed: a finite number of seconds, at least 0",
        ),
        ("timeout_max_seconds", 1, "timeout_max_seconds is 1; allowed: at least timeout_seconds, which is 30"),
        ("timeout_jitter_ratio", 1.5, "timeout_jitter_ratio is 1.5; allowed: 0 to 1"),
        ("consecutive", False, "consecutive is false; allowed: true, unless count_window or time_window is set"),
    ],
)
def test_a_refusal_names_field_value_and_range_and_changes_nothing(field, value, text):
    config = CircuitBreakerConfig()
    before = dataclasses.asdict(config)
    for refused in (lambda: CircuitBreakerConfig(**{field: value}), lambda: setattr(config, field, value)):
        with pytest.raises(ValueError) as error:
            refused()
        assert str(error.value) == text
        assert isinstance(error.value, ConfigError)
        assert error.value.field == field
        assert error.value.allowed in text
    assert dataclasses.asdict(config) == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("failure_threshold", "3"),
        ("timeout_seconds", "3"),
        ("timeout_seconds", None),
        ("on", "ValueError"),
        ("ignore", [ValueError]),
        ("failed_result", 5),
    ],
)
def test_a_value_of_another_kind_is_a_type_error_that_names_the_field(field, value):
    with pytest.raises(TypeError, match=field):
        CircuitBreakerConfig(**{field: value})


def test_a_window_that_judges_nothing_is_refused():
    with pytest.raises(ConfigError, match="failure_ratio, slow_call_ratio, or both"):
        CountWindow()
    with pytest.raises(ConfigError, match="since slow_call_ratio is set"):
        TimeWindow(slow_call_ratio=0.5)


def test_configurations_compare_print_copy_replace_and_pickle():
    config = CircuitBreakerConfig(3, timeout_seconds=1, count_window=CountWindow(size=20, failure_ratio=0.5))
    for other in (
        copy.copy(config),
        copy.deepcopy(config),
        pickle.loads(pickle.dumps(config)),
        dataclasses.replace(config),
        CircuitBreakerConfig(**{each.name: getattr(config, each.name) for each in dataclasses.fields(config)}),
    ):
        assert other == config
        assert repr(other) == repr(config)
        other.failure_threshold = 4
        assert config.failure_threshold == 3
    assert repr(CircuitBreakerConfig()).startswith("CircuitBreakerConfig(failure_threshold=5, success_threshold=2, ")
    assert dataclasses.replace(config, failure_threshold=9).failure_threshold == 9


def test_a_field_that_is_deleted_goes_back_to_its_default_in_every_breaker():
    config = CircuitBreakerConfig(failure_threshold=1, timeout_seconds=1, timeout_max_seconds=2)
    breaker = CircuitBreaker("b", config)
    del config.failure_threshold
    assert config.failure_threshold == 5
    with pytest.raises(ZeroDivisionError):
        breaker.execute(lambda: 1 / 0)
    assert breaker.state is CircuitState.CLOSED
    with pytest.raises(ConfigError, match="timeout_max_seconds is 2; allowed: at least timeout_seconds, which is 30"):
        del config.timeout_seconds
    assert config.timeout_seconds == 1
    with pytest.raises(AttributeError):
        del config.label


def test_a_name_that_is_no_fields_is_refused():
    config = CircuitBreakerConfig()
    with pytest.raises(AttributeError) as raised:
        config.failure_treshold = 1
    text = "CircuitBreakerConfig has no field 'failure_treshold'; did you mean 'failure_threshold'?"
    assert str(raised.value) == text
    with pytest.raises(AttributeError, match="has no field 'colour'$"):
        CircuitBreaker("b", config).config.colour = "red"
    assert config == CircuitBreakerConfig()
    assert vars(config) == vars(CircuitBreakerConfig())


def test_a_subclass_may_have_attributes_of_its_own():
    class Labelled(CircuitBreakerConfig):
        def __init__(self, label, **fields):
            self.label = label
            super().__init__(**fields)
            self.seen = 0

    config = Labelled("payments", failure_threshold=3)
    config.label, config.seen = "orders", 1
    for other in (copy.copy(config), copy.deepcopy(config)):
        assert (other.failure_threshold, other.label, other.seen) == (3, "orders", 1)
    del config.label
    with pytest.raises(AttributeError):
        del config.label


def test_a_subclass_may_have_more_fields():
    @dataclasses.dataclass
    class Labelled(CircuitBreakerConfig):
        label: str = "none"

    config = Labelled(3, label="payments")
    config.label = "orders"
    assert (config.failure_threshold, config.label) == (3, "orders")
    with pytest.raises(ConfigError):
        config.failure_threshold = 0


@pytest.mark.parametrize("value", [5, "10", [], CountWindow, CircuitBreakerConfig()])
@pytest.mark.parametrize("field", ["count_window", "time_window"])
def test_a_window_is_one_of_its_own_kind(field, value):
    kind = {"count_window": "CountWindow", "time_window": "TimeWindow"}[field]
    text = f"{field} must be a {kind} or None, not {type(value).__name__}"
    config = CircuitBreakerConfig()
    for refused in (lambda: CircuitBreakerConfig(**{field: value}), lambda: setattr(config, field, value)):
        with pytest.raises(TypeError, match=text):
            refused()
    with pytest.raises(TypeError, match="time_window must be a TimeWindow or None, not CountWindow"):
        config.time_window = CountWindow(failure_ratio=0.5)
    assert config == CircuitBreakerConfig()


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("timeout_seconds", "timeout_seconds is inf; allowed: a finite number of seconds, at least 0"),
        ("timeout_multiplier", "timeout_multiplier is inf; allowed: a finite number, at least 1"),
        ("timeout_jitter_ratio", "timeout_jitter_ratio is inf; allowed: 0 to 1"),
    ],
)
def test_an_integer_that_no_float_holds_is_out_of_range(field, text):
    with pytest.raises(ConfigError) as error:
        CircuitBreakerConfig(**{field: 10**400})
    assert str(error.value).startswith(text)


def test_an_assignment_that_comes_while_another_is_read_is_not_lost():
    """As if another thread had assigned between: what is read of a value may run any code."""
    config = CircuitBreakerConfig()
    breaker = CircuitBreaker("b", config)

    class Ratio:
        def __float__(self):
            config.failure_threshold = 1
            return 0.5

    config.timeout_jitter_ratio = Ratio()
    assert config.failure_threshold == 1
    with pytest.raises(ZeroDivisionError):
        breaker.execute(lambda: 1 / 0)
    assert breaker.state is CircuitState.OPEN
