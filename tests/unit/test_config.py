"""The schema of the options: every source reads it, and nothing else has a default."""

import math
import re
from typing import Any, get_type_hints

import pytest

from ushabti.config import Settings
from ushabti.errors import ConfigError
from ushabti.options import LAUNCH, OPTIONS, Options
from ushabti.sources import Given, from_environment, from_file, likely_mistakes, where_to_listen
from ushabti.values import descriptors_max, nearest, parse_seconds, parse_size


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (0, 0),
        (4096, 4096),
        ("4096", 4096),
        ("1 B", 1),
        ("32 KiB", 32 * 1024),
        ("16MiB", 16 * 1024**2),
        (" 2 gib ", 2 * 1024**3),
        ("5 MB", 5_000_000),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_a_size_is_bytes_or_text_with_a_unit(value: Any, size: int) -> None:
    assert parse_size(value, "max_body") == size


@pytest.mark.parametrize(
    "value", [-1, True, 1.5, None, "", "KiB", "1e6", "-1", "1.5 MiB", "16 m", "1_000", "٣", 2**63, "9" * 5000, b"1"]
)
def test_what_is_no_size_is_refused_with_name_value_and_advice(value: Any) -> None:
    with pytest.raises(ConfigError, match=r'^max_body is .*: write bytes as a whole number, or text such as "32 KiB"'):
        parse_size(value, "max_body")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0),
        (10, 10),
        (0.5, 0.5),
        ("10", 10),
        ("1.5 s", 1.5),
        (".5", 0.5),
        ("500 ms", 0.5),
        ("2min", 120),
        ("1 h", 3600),
    ],
)
def test_a_time_is_seconds_or_text_with_a_unit(value: Any, seconds: float) -> None:
    assert parse_seconds(value, "keep_alive") == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", [-1, -0.1, math.nan, math.inf, 10**400, False, None, "", "s", "nan", "inf", "1e3", "10 days", "1 2"]
)
def test_what_is_no_time_is_refused_with_name_value_and_advice(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^keep_alive is .*: write seconds as a number"):
        parse_seconds(value, "keep_alive")


@pytest.mark.parametrize(
    ("value", "threads"),
    [
        ("auto", (4, 256)),
        (8, (8, 8)),
        ("8", (8, 8)),
        ("4-64", (4, 64)),
        ("4 - 64", (4, 64)),
        ((4, 64), (4, 64)),
        ([1, 1], (1, 1)),
    ],
)
def test_workers_are_a_number_a_range_or_auto(value: Any, threads: tuple[int, int]) -> None:
    settings = Settings.from_options({"workers": value})
    assert settings.lanes[0][1:] == threads


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workers", 0),
        ("workers", True),
        ("workers", (64, 4)),
        ("workers", (4,)),
        ("workers", "4-"),
        ("workers", None),
        ("workers", 1_000_000),
        ("max_queue", 0),
        ("max_queue", True),
        ("max_queue", 1.0),
        ("max_queue", "many"),
        ("max_queue", 10**9),
        ("max_connections", 0),
        ("max_connections", -1),
        ("max_headers", 10),
        ("max_headers", "1 GiB"),
        ("header_timeout", 0),
        ("header_timeout", math.nan),
        ("keep_alive", 1e9),
        ("backlog", 70_000),
        ("server_header", "a\r\nb"),
        ("server_header", "ü"),
        ("server_header", 3),
        ("access_log", "yes"),
        ("access_log", True),
        ("access_log_file", 3),
        ("access_log_file", "a\0b"),
        ("max_message", 0),
        ("max_message", "4 GiB"),
        ("websocket_ping", 0),
        ("websocket_outbox", 1),
        ("websocket_overflow", "block"),
        ("websocket_compress", 1),
        ("websocket_compress", "yes"),
        ("websocket_origins", ""),
        ("websocket_origins", []),
        ("websocket_origins", None),
        ("websocket_threads", 0),
    ],
)
def test_a_value_out_of_range_or_of_another_type_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{name} is {re.escape(repr(value))}: \w+"):
        Settings.from_options({name: value})


def test_an_unknown_option_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"^there is no option max_quue: did you mean max_queue\?$"):
        Settings.from_options({"max_quue": 1})
    with pytest.raises(ConfigError, match=r"^there is no option zebra: known are tls_cert, "):
        Settings.from_options({"zebra": 1})
    assert nearest("zebra", OPTIONS) is None


def test_connections_leave_descriptors_to_the_application() -> None:
    chosen = Settings.from_options({}).connections_max
    assert 0 < chosen < descriptors_max()
    assert Settings.from_options({"max_connections": "auto"}).connections_max == chosen
    with pytest.raises(ConfigError, match=r"ulimit -n"):
        Settings.from_options({"max_connections": descriptors_max() + 1})


def test_a_log_file_without_a_log_is_refused() -> None:
    with pytest.raises(ConfigError, match="set access_log to text or json"):
        Settings.from_options({"access_log_file": "access.log"})
    assert Settings.from_options({"access_log_file": "access.log", "access_log": "off"}).access_log == "off"


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("same", ("same",)),
        ("any", ("any",)),
        ("https://Shop.Example", ("https://shop.example",)),
        ("https://a.example, http://b.example:8080", ("https://a.example", "http://b.example:8080")),
        (["https://a.example:443", "http://[::1]:80"], ("https://a.example", "http://[::1]")),
        (("http://a.example:443", "https://a.example:8443", "app://local:80"),) * 2,
    ],
)
def test_origins_are_as_browsers_send_them(value: Any, origins: tuple[str, ...]) -> None:
    assert Settings.from_options({"websocket_origins": value}).websocket_origins == origins


@pytest.mark.parametrize("value", ["shop.example", "https://a.example/", "https://", "same, any", ["https://a b"]])
def test_what_is_no_origin_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^websocket_origins is '.*': an origin is a scheme and a host, such as"):
        Settings.from_options({"websocket_origins": value})


@pytest.mark.parametrize(("value", "on"), [(True, True), ("on", True), ("true", True), (False, False), ("off", False)])
def test_a_switch_is_on_or_off(value: Any, on: bool) -> None:
    assert Settings.from_options({"websocket_compress": value}).websocket_compress is on


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"websocket_ping": 60}, "60"),
        ({"websocket_idle": "20 s"}, "'20 s'"),
        ({"websocket_ping": 5, "websocket_idle": 5}, "5"),
    ],
)
def test_a_socket_may_be_silent_for_longer_than_until_the_ping(options: Any, shown: str) -> None:
    with pytest.raises(ConfigError, match=rf"^websocket_idle is {shown}: must be longer than websocket_ping$"):
        Settings.from_options(options)
    labels = {"websocket_idle": "--websocket-idle", "websocket_ping": "--websocket-ping"}
    with pytest.raises(ConfigError, match=r"^--websocket-idle is .* than --websocket-ping$"):
        Settings.from_options(options, labels)


def test_empty_text_switches_the_server_field_off() -> None:
    assert Settings.from_options({"server_header": ""}).server_header is None
    assert Settings.from_options({"server_header": None}).server_header is None


def test_a_message_calls_an_option_as_the_operator_does() -> None:
    with pytest.raises(ConfigError, match=r"^--max-queue is '0'"):
        Settings.from_options({"max_queue": "0"}, {"max_queue": "--max-queue"})


def test_every_default_is_a_value_that_could_be_given() -> None:
    given = Settings.from_options({name: option.default for name, option in OPTIONS.items()})
    assert given.lanes[0][2] == 256
    for option in LAUNCH.values():
        if option.default is not None:
            assert option.kind.read(option.default, option.name) == option.default


def test_every_option_is_explained_and_shown() -> None:
    assert set(get_type_hints(Options)) == set(OPTIONS) == set(Settings.from_options({}).shown())
    for option in (*OPTIONS.values(), *LAUNCH.values()):
        assert option.help and option.why and option.group
        assert not option.help.endswith(".")


def test_what_is_shown_can_be_given_again() -> None:
    settings = Settings.from_options({"workers": "4-64", "max_body": 12345, "keep_alive": 7.5})
    shown = {name: value for name, value in settings.shown().items() if value != "none"}
    shown["max_body"] = shown["max_body"].removesuffix(" bytes")
    assert Settings.from_options(shown) == settings


def test_the_environment_is_read_by_name() -> None:
    given = from_environment({"USHABTI_MAX_QUEUE": "5", "USHABTI_PORT": "1", "MAX_QUEUE": "6"})
    assert given == {
        "max_queue": Given("5", "USHABTI_MAX_QUEUE", "environment"),
        "port": Given("1", "USHABTI_PORT", "environment"),
    }


def test_a_misspelt_variable_is_pointed_out_and_a_foreign_one_is_not() -> None:
    environment = {"USHABTI_MAX_QUUE": "5", "USHABTI_SERVICE_HOST": "10.0.0.1", "USHABTI_CONFIG": "x", "PATH": ""}
    assert likely_mistakes(environment) == [
        "USHABTI_MAX_QUUE is no option and does nothing; did you mean USHABTI_MAX_QUEUE?"
    ]


def test_a_file_gives_values_with_their_place(tmp_path: Any) -> None:
    path = tmp_path / "ushabti.toml"
    path.write_text('workers = [4, 8]\nmax_body = "1 MiB"\nbind = ["127.0.0.1:0"]\n')
    given = from_file(str(path))
    assert given["workers"] == Given([4, 8], f"workers in {path}", "ushabti.toml")
    assert Settings.from_options({name: given[name].value for name in ("workers", "max_body")}).max_body == 1024**2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("workers = ", "is no TOML"),
        ("max_quue = 1", "there is no option max_quue (.*): did you mean max_queue?"),
        ("[server]\nport = 1", "there is no option server"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path: Any, text: str, message: str) -> None:
    path = tmp_path / "ushabti.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        from_file(str(path))
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        from_file(str(tmp_path / "none.toml"))


def given(**values: Any) -> dict[str, Given]:
    return {name: Given(value, name, "test") for name, value in values.items()}


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        ([{}, {}], {}),
        ([given(port=1), given(port=2, host="h")], {"port": 1, "host": "h"}),
        ([given(port=1), given(bind=["b"])], {"port": 1}),
        ([given(bind=["b"]), given(port=1)], {"bind": ["b"]}),
        ([{}, given(bind=["b"]), given(bind=["c"])], {"bind": ["b"]}),
    ],
)
def test_the_strongest_source_says_where_to_listen(sources: list[dict[str, Given]], names: dict[str, Any]) -> None:
    assert {name: each.value for name, each in where_to_listen(sources).items()} == names


def test_an_address_in_two_ways_in_one_place_is_refused() -> None:
    with pytest.raises(ConfigError, match="bind and port both say where to listen"):
        where_to_listen([given(bind=["b"], port=1)])
