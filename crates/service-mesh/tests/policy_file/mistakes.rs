use insta::assert_snapshot;
use proptest::prelude::*;
use service_mesh::{Mesh, read_policy_file};

use crate::complete_example;

fn mistakes(text: &str) -> String {
    read_policy_file(text).unwrap_err().to_string()
}

#[test]
fn an_unknown_key_is_told_with_its_place_and_the_one_that_was_meant() {
    let text = "
[service.payments]
[services.payments]
  stratgy = 'random'
  instances = [{ id = 'a', host = 'h', port = 1, wieght = 2 }]
  circuit_breaker = { failure_treshold = 3, timeout = 5 }
  instance-circuit-breaker = false
  colour = 'blue'
[services.payments.retry]
maxRetries = 3
[admin]
adress = '127.0.0.1:1'
";
    assert_snapshot!(mistakes(text), @r#"
    2:2: service is unknown; did you mean services?
    4:3: services.payments.stratgy is unknown; did you mean strategy?
    5:50: services.payments.instances[0].wieght is unknown; did you mean weight?
    6:23: services.payments.circuit_breaker.failure_treshold is unknown; did you mean failure_threshold?
    6:45: services.payments.circuit_breaker.timeout is unknown; did you mean timeout_seconds?
    7:3: services.payments.instance-circuit-breaker is unknown; did you mean instance_circuit_breaker?
    8:3: services.payments.colour is unknown; allowed: strategy, instances, discovery, circuit_breaker, instance_circuit_breaker, retry, budget, timeouts, max_ejected_ratio, explain_ratio, slow_start_seconds, health_check, replay, limits
    10:1: services.payments.retry.maxRetries is unknown; did you mean max_retries?
    12:1: admin.adress is unknown; did you mean address?
    "#);
}

#[test]
fn a_value_of_the_wrong_kind_is_told_with_the_right_one() {
    let text = "
[services.payments]
strategy = 3
instances = 'a'
circuit_breaker = false
retry = 3
max_ejected_ratio = 'half'
explain_ratio = true
slow_start_seconds = 1979-05-27
[services.payments.limits]
queue = 1.5
header_bytes = -1
[services.payments.budget]
ratio = []
[[services.orders.instances]]
id = 1
host = ''
port = 70_000
metadata = { zone = 1 }
[services.orders.instance_circuit_breaker]
consecutive = 'yes'
count_window = true
[services.orders.health_check]
path = {}
[listeners]
web = { address = 'localhost' }
";
    assert_snapshot!(mistakes(text), @r#"
    3:1: services.payments.strategy is a whole number; expected a string
    4:1: services.payments.instances is a string; expected a list
    5:1: services.payments.circuit_breaker is a boolean; expected a table
    6:1: services.payments.retry is a whole number; expected a table, or false
    7:1: services.payments.max_ejected_ratio is a string; expected a number
    8:1: services.payments.explain_ratio is a boolean; expected a number
    9:1: services.payments.slow_start_seconds is a date or time; expected a number
    11:1: services.payments.limits.queue is a number with a point; expected a whole number
    12:1: services.payments.limits.header_bytes is -1; allowed: 0 or more
    14:1: services.payments.budget.ratio is a list; expected a number
    16:1: services.orders.instances[0].id is a whole number; expected a string
    17:1: services.orders.instances[0].host is empty; expected some text
    18:1: services.orders.instances[0].port is 70000; allowed: 1 to 65535
    19:14: services.orders.instances[0].metadata.zone is a whole number; expected a string
    21:1: services.orders.instance_circuit_breaker.consecutive is a string; expected true or false
    22:1: services.orders.instance_circuit_breaker.count_window is a boolean; expected a table, or false
    24:1: services.orders.health_check.path is a table; expected a string
    26:9: listeners.web.address is "localhost"; allowed: an IP address and a port, as 127.0.0.1:8080 or [::1]:8080, or the path of a Unix socket, as unix:/run/mesh.sock
    "#);
}

#[test]
fn a_value_out_of_range_is_told_at_its_key_with_the_range() {
    let text = "
[services.a]
circuit_breaker.failure_threshold = 0
[services.b]
circuit_breaker = { consecutive = false }
[services.c.circuit_breaker]
timeout_max_seconds = 20
[services.c.instance_circuit_breaker]
failure_threshold = 2
[services.d.circuit_breaker]
timeout_max_seconds = 40
[services.d.instance_circuit_breaker]
timeout_seconds = 60
[services.e.circuit_breaker.count_window]
size = 10
[services.f]
max_ejected_ratio = 0
[services.g.timeouts]
call_seconds = -1
attempt_seconds = 0.0
idle_seconds = nan
[services.h]
budget.ratio = inf
retry.exponential_base = 0.5
health_check = { type = 'tcp', path = '/' }
limits.header_bytes = 10
[listeners.web]
address = '127.0.0.1:80'
limits = { connections = 0 }
[access_log]
sample_ratio = 1.5
[drain]
delay_seconds = -1
";
    assert_snapshot!(mistakes(text), @r#"
    3:17: services.a.circuit_breaker.failure_threshold is 0; allowed: 1 or more
    5:21: services.b.circuit_breaker.consecutive is false; allowed: true, unless count_window or time_window is set
    7:1: services.c.circuit_breaker.timeout_max_seconds is 20; allowed: at least timeout_seconds, which is 30
    12:13: services.d.instance_circuit_breaker.timeout_max_seconds is 40; allowed: at least timeout_seconds, which is 60
    14:29: services.e.circuit_breaker.count_window is without a rule; allowed: failure_ratio, slow_call_ratio, or both
    17:1: services.f.max_ejected_ratio is 0; allowed: above 0, at most 1
    19:1: services.g.timeouts.call_seconds is -1; allowed: a finite number of seconds, at least 0
    20:1: services.g.timeouts.attempt_seconds is 0; allowed: above 0, or none at all for no limit
    21:1: services.g.timeouts.idle_seconds is NaN; allowed: a finite number of seconds, at least 0
    23:8: services.h.budget.ratio is inf; allowed: 0 to 10
    24:7: services.h.retry.exponential_base is 0.5; allowed: a finite number, at least 1
    25:32: services.h.health_check.path is "/"; allowed: none where type is "tcp"
    26:8: services.h.limits.header_bytes is 10; allowed: 8192 or more
    29:12: listeners.web.limits.connections is 0; allowed: 1 or more
    31:1: access_log.sample_ratio is 1.5; allowed: above 0, at most 1
    33:1: drain.delay_seconds is -1; allowed: a finite number of seconds, at least 0
    "#);
}

#[test]
fn what_would_be_nobodys_address_or_no_time_is_refused() {
    let text = "
[services.payments]
instances = [
    { id = '', host = 'h', port = 1 },
    { id = 'b', host = 'h', port = 0 },
]
timeouts = { call_seconds = 0, attempt_seconds = 0, idle_seconds = 0 }
";
    assert_snapshot!(mistakes(text), @r#"
    4:7: services.payments.instances[0].id is empty; expected some text
    5:29: services.payments.instances[1].port is 0; allowed: 1 to 65535
    7:14: services.payments.timeouts.call_seconds is 0; allowed: above 0, or none at all for no limit
    7:32: services.payments.timeouts.attempt_seconds is 0; allowed: above 0, or none at all for no limit
    7:53: services.payments.timeouts.idle_seconds is 0; allowed: above 0, or none at all for no limit
    "#);
}

#[test]
fn every_value_out_of_range_is_told_also_beside_wrong_keys_and_types() {
    let text = "
[services.a]
max_ejected_ratio = 2
explain_ratio = -1
colour = 'blue'
[services.a.circuit_breaker]
failure_threshold = 0
success_threshold = 0
half_open_max_calls = 'many'
timeout_multiplier = 0.5
timeout_jiter_ratio = 2
count_window = { size = 0, minimum_calls = 0, failure_ratio = 2, slow_call_ratio = 2 }
time_window = { buckets = 9, duration_seconds = 0, failure_ratio = 'half', minimum_calls = 0 }
[services.a.instance_circuit_breaker]
success_threshold = 0
half_open_max_calls = 0
count_window.size = 0
[services.a.retry]
exponential_base = 0
max_retires = 3
[services.a.budget]
ratio = 11
floor_per_second = -1
[services.a.health_check]
interval_seconds = 0
timeout_seconds = 0
rise = 0
path = 'x'
method = 'get'
[services.a.replay]
statuses = '200'
body_bytes = 100_000_000
";
    assert_snapshot!(mistakes(text), @r#"
    3:1: services.a.max_ejected_ratio is 2; allowed: above 0, at most 1
    4:1: services.a.explain_ratio is -1; allowed: 0 to 1
    5:1: services.a.colour is unknown; allowed: strategy, instances, discovery, circuit_breaker, instance_circuit_breaker, retry, budget, timeouts, max_ejected_ratio, explain_ratio, slow_start_seconds, health_check, replay, limits
    7:1: services.a.circuit_breaker.failure_threshold is 0; allowed: 1 or more
    8:1: services.a.circuit_breaker.success_threshold is 0; allowed: 1 or more
    9:1: services.a.circuit_breaker.half_open_max_calls is a string; expected a whole number
    10:1: services.a.circuit_breaker.timeout_multiplier is 0.5; allowed: a finite number, at least 1
    11:1: services.a.circuit_breaker.timeout_jiter_ratio is unknown; did you mean timeout_jitter_ratio?
    12:1: services.a.circuit_breaker.count_window.slow_call_seconds is missing; allowed: a number of seconds, since slow_call_ratio is set
    12:18: services.a.circuit_breaker.count_window.size is 0; allowed: 1 or more
    12:28: services.a.circuit_breaker.count_window.minimum_calls is 0; allowed: 1 or more
    12:47: services.a.circuit_breaker.count_window.failure_ratio is 2; allowed: above 0, at most 1
    12:66: services.a.circuit_breaker.count_window.slow_call_ratio is 2; allowed: above 0, at most 1
    13:17: services.a.circuit_breaker.time_window.buckets is 9; allowed: 10 or more
    13:30: services.a.circuit_breaker.time_window.duration_seconds is 0; allowed: at least 0.00000001 (a nanosecond a bucket)
    13:52: services.a.circuit_breaker.time_window.failure_ratio is a string; expected a number
    13:76: services.a.circuit_breaker.time_window.minimum_calls is 0; allowed: 1 or more
    15:1: services.a.instance_circuit_breaker.success_threshold is 0; allowed: 1 or more
    16:1: services.a.instance_circuit_breaker.half_open_max_calls is 0; allowed: 1 or more
    17:14: services.a.instance_circuit_breaker.count_window.size is 0; allowed: 1 or more
    19:1: services.a.retry.exponential_base is 0; allowed: a finite number, at least 1
    20:1: services.a.retry.max_retires is unknown; did you mean max_retries?
    22:1: services.a.budget.ratio is 11; allowed: 0 to 10
    23:1: services.a.budget.floor_per_second is -1; allowed: 0 to 1000000
    25:1: services.a.health_check.interval_seconds is 0; allowed: above 0
    26:1: services.a.health_check.timeout_seconds is 0; allowed: above 0
    27:1: services.a.health_check.rise is 0; allowed: 1 or more
    28:1: services.a.health_check.path is "x"; allowed: a path that begins with /
    29:1: services.a.health_check.method is "get"; allowed: a method in capital letters, as GET
    31:1: services.a.replay.statuses is "200"; allowed: statuses from 400 to 599, as 502-504 or 429, 503; or none
    32:1: services.a.replay.body_bytes is 100000000; allowed: 0 to 67108864
    "#);
}

#[test]
fn every_mistake_of_a_section_is_told_and_every_clash_of_two() {
    let text = "
[services.b]
health_check = { type = 'tcp', path = '/', statuses = '200', fall = 0 }
timeouts = { call_seconds = 0, attempt_seconds = '1', idle_seconds = 0 }
discovery = { dns = 'api:80', srv = 3, min_ttl_seconds = 0 }
instances = [{ id = 'a', host = 'h', port = 1 }, { id = 'a', host = 'h', port = 0 }]
[listeners.web]
address = '127.0.0.1:80'
limits = { connections = 0, header_seconds = 0, header_bytes = 1 }
[listeners.again]
address = '127.0.0.1:80'
[[routes]]
service = 'a'
[[routes]]
service = 'c'
[admin]
address = '127.0.0.1:80'
tokn = ''
";
    assert_snapshot!(mistakes(text), @r#"
    3:32: services.b.health_check.path is "/"; allowed: none where type is "tcp"
    3:44: services.b.health_check.statuses is "200"; allowed: none where type is "tcp"
    3:62: services.b.health_check.fall is 0; allowed: 1 or more
    4:14: services.b.timeouts.call_seconds is 0; allowed: above 0, or none at all for no limit
    4:32: services.b.timeouts.attempt_seconds is a string; expected a number
    4:55: services.b.timeouts.idle_seconds is 0; allowed: above 0, or none at all for no limit
    5:1: services.b.discovery is by two names; allowed: dns or srv
    5:1: services.b.discovery stands beside instances; allowed: one of the two
    5:31: services.b.discovery.srv is a whole number; expected a string
    5:40: services.b.discovery.min_ttl_seconds is 0; allowed: above 0
    6:50: services.b.instances[1] has the id of another instance, "a"
    6:74: services.b.instances[1].port is 0; allowed: 1 to 65535
    7:12: listeners.web listens where listeners.again does
    9:12: listeners.web.limits.connections is 0; allowed: 1 or more
    9:29: listeners.web.limits.header_seconds is 0; allowed: above 0
    9:49: listeners.web.limits.header_bytes is 1; allowed: 8192 or more
    13:1: routes[0].service is "a"; did you mean b?
    14:1: routes[1] fits the same requests as another route, which stands before it
    15:1: routes[1].service is "c"; did you mean b?
    16:2: admin listens where listeners.again does
    18:1: admin.tokn is unknown; did you mean token?
    "#);
}

/// A wrong value counts as not given: what would be right or wrong by it is not told, for it may be right.
#[test]
fn no_mistake_is_told_that_follows_from_another() {
    let text = "
[services.a.circuit_breaker]
timeout_seconds = '60'
timeout_max_seconds = 20
[services.b.circuit_breaker]
timeout = 10
timeout_max_seconds = 20
[services.c.circuit_breaker]
consecutive = false
count_window = { size = 0, failure_ratio = 0.5 }
[services.d.circuit_breaker]
count_window = { failure_rate = 0.5 }
time_window = { slow_call_ratio = 0.5, slow_call_second = 1 }
[services.e.circuit_breaker]
failure_threshold = 0
consecutive = false
count_window = { failure_ratio = 2 }
[services.e.instance_circuit_breaker]
timeout_max_seconds = 20
time_window = { slow_call_seconds = 1 }
[services.f]
health_check = { interval_seconds = 'often', timeout_seconds = 20 }
discovery = { dsn = 'api:80', min_ttl_seconds = '500', max_ttl_seconds = 2 }
[services.g.discovery]
dns = 3
[services.h.circuit_breaker]
time_window = { buckets = 'ten', duration_seconds = 1e-8, failure_ratio = 0.5 }
[[routes]]
service = 'a'
[[routes]]
service = 'a'
hots = 'b'
[admin]
address = '0.0.0.0:80'
tokn = '0123456789abcdef'
";
    assert_snapshot!(mistakes(text), @r#"
    3:1: services.a.circuit_breaker.timeout_seconds is a string; expected a number
    6:1: services.b.circuit_breaker.timeout is unknown; did you mean timeout_seconds?
    10:18: services.c.circuit_breaker.count_window.size is 0; allowed: 1 or more
    12:18: services.d.circuit_breaker.count_window.failure_rate is unknown; did you mean failure_ratio?
    13:40: services.d.circuit_breaker.time_window.slow_call_second is unknown; did you mean slow_call_seconds?
    15:1: services.e.circuit_breaker.failure_threshold is 0; allowed: 1 or more
    17:18: services.e.circuit_breaker.count_window.failure_ratio is 2; allowed: above 0, at most 1
    22:18: services.f.health_check.interval_seconds is a string; expected a number
    23:15: services.f.discovery.dsn is unknown; did you mean dns?
    23:31: services.f.discovery.min_ttl_seconds is a string; expected a number
    25:1: services.g.discovery.dns is a whole number; expected a string
    27:17: services.h.circuit_breaker.time_window.buckets is a string; expected a whole number
    32:1: routes[1].hots is unknown; did you mean host?
    35:1: admin.tokn is unknown; did you mean token?
    "#);
}

#[test]
fn a_limit_for_slow_calls_and_their_share_need_each_other() {
    let text = "
[services.a.circuit_breaker.count_window]
slow_call_ratio = 0.5
[services.b.circuit_breaker]
time_window = { slow_call_seconds = 2 }
[services.c.circuit_breaker]
count_window = { failure_ratio = 0.5, size = 0 }
time_window = { failure_ratio = 1.5 }
";
    assert_snapshot!(mistakes(text), @r#"
    2:29: services.a.circuit_breaker.count_window.slow_call_seconds is missing; allowed: a number of seconds, since slow_call_ratio is set
    5:1: services.b.circuit_breaker.time_window.slow_call_ratio is missing; allowed: above 0, at most 1, since slow_call_seconds is set
    7:39: services.c.circuit_breaker.count_window.size is 0; allowed: 1 or more
    8:17: services.c.circuit_breaker.time_window.failure_ratio is 1.5; allowed: above 0, at most 1
    "#);
}

#[test]
fn a_word_that_is_none_is_told_with_the_words_there_are() {
    let text = "
[services.payments]
strategy = 'round-robin'
retry.jitter = 'wild'
health_check.type = 'grpc'
[listeners.web]
address = '127.0.0.1:80'
[[routes]]
service = 'paymets'
listener = 'webb'
[[routes]]
service = 'x'
path_prefix = 'pay'
[access_log]
mode = 'sample'
";
    assert_snapshot!(mistakes(text), @r#"
    3:1: services.payments.strategy is "round-robin"; did you mean round_robin?
    4:7: services.payments.retry.jitter is "wild"; allowed: none, proportional, full, equal, decorrelated
    5:14: services.payments.health_check.type is "grpc"; allowed: http, tcp
    9:1: routes[0].service is "paymets"; did you mean payments?
    10:1: routes[0].listener is "webb"; did you mean web?
    12:1: routes[1].service is "x"; allowed: payments
    13:1: routes[1].path_prefix is "pay"; allowed: a path that begins with /, without a query
    15:1: access_log.mode is "sample"; did you mean sampled?
    "#);
}

#[test]
fn a_mistake_in_what_is_the_sidecars_is_told() {
    let text = "
[services.a.discovery]
[services.b.discovery]
dns = 'api.internal:80'
srv = '_http._tcp.api.internal'
[services.c]
instances = []
discovery = { srv = 'a b', min_ttl_seconds = 0 }
[services.d.discovery]
dns = 'api.internal:80'
min_ttl_seconds = 30
max_ttl_seconds = 20
[services.e.discovery]
svr = '_http._tcp.api.internal'
[services.f.health_check]
statuses = '2xx'
method = 'get'
[listeners.web]
address = '127.0.0.1:80'
[listeners.other]
address = '127.0.0.1:80'
[listeners.free]
address = '127.0.0.1:0'
[listeners.also_free]
address = '127.0.0.1:0'
[[routes]]
service = 'a'
host = 'shop.example:80'
methods = ['get', 'a b', 1]
[[routes]]
service = 'a'
methods = []
path_prefix = '/a?b'
[[routes]]
service = 'a'
host = 'x'
[[routes]]
service = 'b'
host = 'X.'
path_prefix = '//'
[admin]
address = '127.0.0.1:80'
token = 'secret'
";
    assert_snapshot!(mistakes(text), @r#"
    2:13: services.a.discovery is without a name; allowed: dns or srv
    3:13: services.b.discovery is by two names; allowed: dns or srv
    8:1: services.c.discovery stands beside instances; allowed: one of the two
    8:15: services.c.discovery.srv is "a b"; allowed: the name of a service, as _http._tcp.api.internal
    8:28: services.c.discovery.min_ttl_seconds is 0; allowed: above 0
    12:1: services.d.discovery.max_ttl_seconds is 20; allowed: at least min_ttl_seconds, which is 30
    14:1: services.e.discovery.svr is unknown; did you mean srv?
    16:1: services.f.health_check.statuses is "2xx"; allowed: statuses from 100 to 599, as 200-299 or 200, 204
    17:1: services.f.health_check.method is "get"; allowed: a method in capital letters, as GET
    18:12: listeners.web listens where listeners.other does
    28:1: routes[0].host is "shop.example:80"; allowed: a host without a port, as shop.example, *.shop.example or [::1]
    29:12: routes[0].methods[0] is "get"; did you mean GET?
    29:19: routes[0].methods[1] is "a b"; allowed: a method, as GET
    29:26: routes[0].methods[2] is a whole number; expected a string
    32:1: routes[1].methods is empty; expected a method
    33:1: routes[1].path_prefix is "/a?b"; allowed: a path that begins with /, without a query
    37:1: routes[3] fits the same requests as another route, which stands before it
    41:2: admin listens where listeners.other does
    43:1: admin.token is not fit; allowed: at least 16 printable ASCII characters without a blank
    "#);
    let mistake = |admin: &str| mistakes(&format!("[admin]\n{admin}"));
    assert_snapshot!(mistake("address = '0.0.0.0:80'"), @r#"2:1: admin.address is "0.0.0.0:80"; allowed: a loopback address or a Unix socket, unless there is a token"#);
    assert_snapshot!(mistake("address = 'localhost:80'\ntoken = 'with a blank, and long'"), @r#"
    2:1: admin.address is "localhost:80"; allowed: an IP address and a port, as 127.0.0.1:8080 or [::1]:8080, or the path of a Unix socket, as unix:/run/mesh.sock
    3:1: admin.token is not fit; allowed: at least 16 printable ASCII characters without a blank
    "#);
    assert!(read_policy_file("[admin]\naddress = '[::1]:80'").is_ok());
    assert!(read_policy_file("[admin]\naddress = '[::]:80'\ntoken = '0123456789abcdef'").is_ok());
}

#[test]
fn what_is_missing_or_twice_there_is_told() {
    let text = "
[services.payments]
instances = [
    { id = 'a', host = 'h' },
    { id = 'b', host = 'h', port = 1 },
    { id = 'b', host = 'i', port = 1 },
]
[services.''.retry]
[listeners.web]
[[routes]]
[admin]
";
    assert_snapshot!(mistakes(text), @r#"
    4:5: services.payments.instances[0].port is missing
    6:5: services.payments.instances[2] has the id of another instance, "b"
    8:11: services."" is empty; expected a name
    9:12: listeners.web.address is missing
    10:1: routes[0].service is missing
    11:2: admin.address is missing
    "#);
}

#[test]
fn every_instance_is_looked_at_even_after_one_that_is_there_twice() {
    let text = "
[services.payments]
instances = [
    { id = 'a', host = 'h', port = 1 },
    { id = 'a', host = 'i', port = 1 },
    { id = 'b', host = 'i', port = 1, weight = -1 },
    { id = 'a', host = 'j', port = 1 },
]
";
    assert_snapshot!(mistakes(text), @r#"
    5:5: services.payments.instances[1] has the id of another instance, "a"
    6:39: services.payments.instances[2].weight is -1; allowed: 0 or more
    7:5: services.payments.instances[3] has the id of another instance, "a"
    "#);
}

#[test]
fn a_url_or_an_address_with_a_port_is_no_host() {
    let mistake = |host: &str| {
        let text = format!("[services.a]\ninstances = [{{ id = 'a', port = 80, host = '{host}' }}]");
        read_policy_file(&text).err().map(|mistakes| mistakes.to_string())
    };
    assert_snapshot!(mistake("http://10.0.0.1").unwrap(), @r#"2:37: services.a.instances[0].host is "http://10.0.0.1"; allowed: a name or an IP address, without scheme and port, or unix:/run/app.sock"#);
    for host in ["10.0.0.1:80", "api:80", "[::1]:80", "api/v1", "a b", "::g", " "] {
        assert!(mistake(host).is_some(), "{host}");
    }
    for host in
        ["api", "api_1.internal.", "10.0.0.1", "::1", "[::1]", "fe80::1%eth0", "größe.example", "unix:/a b.sock"]
    {
        assert_eq!(mistake(host), None, "{host}");
    }
}

#[test]
fn what_is_no_toml_is_told_where_toml_ends() {
    assert_snapshot!(mistakes("[services.a]\nretry = {\n"), @r#"2:10: not TOML: unclosed inline table, expected `}`"#);
    assert_snapshot!(mistakes("[services.a]\n[services.a]\n"), @r#"2:11: not TOML: duplicate key"#);
    assert_snapshot!(mistakes("[services.a]\nexplain_ratio = 0.1\nexplain_ratio = 0.2\n"), @r#"3:1: not TOML: duplicate key"#);
}

#[test]
fn a_column_counts_characters() {
    let error = read_policy_file("services = { 'größe' = { retri = 1 } }").unwrap_err();
    let mistake = &error.mistakes()[0];
    assert_eq!((mistake.line(), mistake.column()), (1, 26));
    assert_eq!((mistake.key(), mistake.message()), (r#"services."größe".retri"#, "is unknown; did you mean retry?"));
}

#[test]
fn a_file_is_named_and_one_that_is_not_there_too() {
    let directory = tempfile();
    let path = directory.join("mesh.toml");
    let unreadable = Mesh::from_path(&path).unwrap_err();
    assert_eq!(unreadable.to_string(), format!("{} cannot be read", path.display()));
    assert!(std::error::Error::source(&unreadable).is_some() && unreadable.mistakes().is_empty());
    std::fs::write(&path, "retry = 3").unwrap();
    let error = Mesh::from_path(&path).unwrap_err();
    let expected = "1:1: retry is unknown; allowed: services, listeners, routes, admin, access_log, drain";
    assert_eq!(error.to_string(), format!("{}:{expected}", path.display()));
    assert_eq!(error.path(), Some(path.as_path()));
    std::fs::write(&path, "[services.a]").unwrap();
    let mesh = Mesh::from_path(&path).unwrap();
    std::fs::write(&path, "[services.b]").unwrap();
    assert_eq!(mesh.reload_path(&path).unwrap().to_string(), "b: added; a: removed");
    std::fs::remove_dir_all(directory).unwrap();
    assert!(mesh.reload_path(&path).is_err() && mesh.service("b").is_some());
}

/// A directory of this test process alone.
fn tempfile() -> std::path::PathBuf {
    let directory = std::env::temp_dir().join(format!("service-mesh-policy-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_edit_of_a_file_is_a_panic_and_every_mistake_has_a_place(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..24_usize, edit()), 1..6),
    ) {
        let mut text: Vec<char> = complete_example().chars().collect();
        for (at, length, with) in edits {
            let at = at.index(text.len().max(1)).min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, with.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(error) = read_policy_file(&text) {
            prop_assert!(!error.mistakes().is_empty());
            for mistake in error.mistakes() {
                let line = text.split('\n').nth(mistake.line() - 1);
                prop_assert!(line.is_some_and(|line| mistake.column() <= line.chars().count() + 1), "{mistake}");
            }
        } else {
            prop_assert!(text.parse::<Mesh>().is_ok());
        }
    }
}

fn edit() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[a-z_=\\[\\]{}\"'0-9.\n#-]{0,8}",
        "\\PC{0,4}",
        Just(String::from("\n[services.x]\n")),
        Just(String::from(" = 99999999999999999999999\n")),
        Just(String::from("= 1e999\n")),
        Just(String::from("[[[[[[[[[[[[[[[[")),
    ]
}
