//! The command line: what it tells, and how it ends.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

fn service_mesh(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_service-mesh"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(arguments: &[&str]) -> Output {
    service_mesh(arguments).output().unwrap()
}

/// How it ended, and what it said on the error output.
fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let output = output(arguments);
    assert!(output.stdout.is_empty(), "{arguments:?} printed {}", String::from_utf8_lossy(&output.stdout));
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A file of this text, which is removed with the value.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: impl AsRef<[u8]>) -> Self {
        let path = std::env::temp_dir().join(format!("service-mesh-{name}-{}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Reads lines until one of them has this in it; returns all of them.
fn until(out: &mut BufReader<impl Read>, what: &str) -> String {
    let mut text = String::new();
    while !text.contains(what) {
        assert!(out.read_line(&mut text).unwrap() > 0, "it ended, and had not said {what:?}: {text}");
    }
    text
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

const BAD: &str = r#"
[services.api]
instances = [{ id = "a", host = "127.0.0.1", port = 9001 }]
retry.max_retires = 3

[[routes]]
service = "apo"
"#;

#[test]
fn the_demo_loses_no_call_and_everybody_counts_the_same() {
    let output = output(&["demo", "--speed", "4"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(!text.contains('\x1b'), "no terminal reads it: {text}");
    for part in [
        "curl -s http://127.0.0.1:",
        "-- alpha answers 503",
        "circuit tripped",
        "circuit reset",
        "\n  all are well  ",
        "\n  alpha answers 503  ",
        "\n  beta hangs as well  ",
        "\n  both are mended  ",
        "\n  gamma is dead  ",
        "\n  gamma is back  ",
        "\n  they agree: ",
        "the call that was hit hardest\n  call of shop took ",
        " 0 failed: no caller noticed anything\n",
    ] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    let sums = text.lines().find(|line| line.starts_with("  in all ")).unwrap();
    let sums: Vec<u64> = sums.split_whitespace().skip(2).map(|number| number.parse().unwrap()).collect();
    let [alpha, beta, gamma, retries, failed] = sums[..] else { panic!("{sums:?}") };
    assert!(alpha > 0 && beta > 0 && gamma > 0 && retries > 0, "{text}");
    assert_eq!(failed, 0);
    assert!(text.ends_with(&format!(
        "\n{} calls, {retries} retries, 0 failed: no caller noticed anything\n",
        alpha + beta + gamma
    )));
    assert!(output.stderr.is_empty());
}

#[test]
fn ctrl_c_ends_the_demo_with_its_sums() {
    let mut demo = service_mesh(&["demo"]).spawn().unwrap();
    let mut out = BufReader::new(demo.stdout.take().unwrap());
    until(&mut out, "alpha  circuit tripped");
    interrupt(&demo);
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(130), "{text}");
    for part in ["\ninterrupted after ", "(alpha answers 503)", "they agree", "until the interruption ", " 0 failed"] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}

#[test]
fn run_tells_what_it_serves_and_how_it_is_ended() {
    let arguments = ["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "api=127.0.0.1:9001,127.0.0.1:9002"];
    let mut run = service_mesh(&arguments).spawn().unwrap();
    let mut out = BufReader::new(run.stderr.take().unwrap());
    let text = until(&mut out, "Ctrl-C ends it");
    for part in [
        "service-mesh: listening on 127.0.0.1:",
        "service-mesh: api: round_robin over 127.0.0.1:9001, 127.0.0.1:9002\n",
        "service-mesh: admin: curl http://127.0.0.1:",
    ] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    assert!(!text.contains(":0 "), "the ports are those that it has got: {text}");
    interrupt(&run);
    assert_eq!(run.wait().unwrap().code(), Some(0));
}

#[test]
fn run_tells_when_a_circuit_changes_its_state() {
    // Nobody listens there: the port stays bound.
    let nobody = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    nobody.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let nobody = nobody.local_addr().unwrap().as_socket().unwrap();
    let mut run = service_mesh(&["run", "--listen", "127.0.0.1:0", &format!("api={nobody}")]).spawn().unwrap();
    let mut out = BufReader::new(run.stderr.take().unwrap());
    let text = until(&mut out, "Ctrl-C ends it");
    let address = text.split("listening on ").nth(1).unwrap().split(' ').next().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    for _ in 0..5 {
        client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").unwrap();
    }
    let told = until(&mut out, "circuit api: closed -> open: ");
    assert!(told.contains("service-mesh: warn: circuit api"), "{told}");
    interrupt(&run);
    assert_eq!(run.wait().unwrap().code(), Some(0));
}

#[test]
fn check_tells_what_a_file_says() {
    let text = r#"
[services.api]
instances = [{ id = "a", host = "10.0.0.1", port = 80 }, { id = "b", host = "::1", port = 80 }]
[services.found]
strategy = "p2c"
discovery = { srv = "_http._tcp.found.internal" }
[services.none]
[listeners.web]
address = "127.0.0.1:8080"
[[routes]]
service = "api"
host = "shop.example"
methods = ["GET", "HEAD"]
[[routes]]
service = "found"
path_prefix = "/found"
[admin]
address = "0.0.0.0:9000"
token = "0123456789abcdef0123456789abcdef"
"#;
    let file = File::new("check", text);
    let output = output(&["check", file.path()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let told = "no mistake
  service api: round_robin over 10.0.0.1:80, [::1]:80
  service found: p2c over instances of DNS, SRV _http._tcp.found.internal
  service none: no instances
  listener web: 127.0.0.1:8080
  route GET, HEAD shop.example / -> api
  route any method any host /found -> found
  admin: 0.0.0.0:9000, with a token
";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}: {told}", file.path()));
}

#[test]
fn check_tells_what_run_would_miss() {
    let file = File::new("library", "[services.api]\n");
    let output = output(&["check", file.path()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "it is a policy, for the libraries");
    assert!(text.contains("no mistake\n") && text.contains("  run would refuse it: it has no listener; one"), "{text}");
}

#[test]
fn every_mistake_of_a_file_is_told_with_its_place() {
    let file = File::new("mistakes", BAD);
    let path = file.path();
    let told = format!(
        "service-mesh: {path}:4:7: services.api.retry.max_retires is unknown; did you mean max_retries?\n\
         service-mesh: {path}:7:1: routes[0].service is \"apo\"; did you mean api?\n"
    );
    for command in ["check", "run"] {
        assert_eq!(refused(&[command, path]), (Some(2), told.clone()));
    }
}

#[test]
fn wrong_input_is_one_error_and_code_2() {
    let (no_text, no_toml) = (File::new("bytes", b"\xff\xfe"), File::new("syntax", "[services.api\n"));
    let no_listener = File::new("no-listener", "[services.api]\n");
    let (empty, listener) = (File::new("empty", ""), "[listeners.web]\naddress = '127.0.0.1:0'\n");
    let no_service = File::new("no-service", listener);
    let no_route = File::new("no-route", format!("{listener}[services.api]\n[services.web]\n"));
    let folder = std::env::temp_dir();
    let folder = folder.to_str().unwrap();
    for (arguments, told) in [
        (vec!["check", "nothing.toml"], "nothing.toml cannot be read: No such file"),
        (vec!["run", "nothing.toml"], "nothing.toml cannot be read: No such file"),
        (vec!["run", "api"], "; a service would be NAME=HOST:PORT,HOST:PORT"),
        (vec!["run", "--listen", "127.0.0.1:0", "api"], "NAME=HOST:PORT,HOST:PORT; api would be a policy file"),
        (vec!["run", folder], "cannot be read: Is a directory"),
        (vec!["check", no_text.path()], "cannot be read: stream did not contain valid UTF-8"),
        (vec!["check", no_toml.path()], ":1:14: not TOML: "),
        (vec!["run", no_listener.path()], "has no listener; one would be [listeners.web]"),
        (vec!["run", empty.path()], "has no listener; one would be [listeners.web]"),
        (vec!["run", no_service.path()], "has no service, so that no request could go anywhere"),
        (vec!["run", no_route.path()], "has several services and no route to any"),
        (vec!["run", "--listen", "127.0.0.1:0", no_listener.path()], "--listen is for services on the command line"),
        (vec!["run", "--admin", "127.0.0.1:0", no_listener.path()], "--admin is for services on the command line"),
        (vec!["run", "api=127.0.0.1"], "\"api=127.0.0.1\" is no service; write NAME=HOST:PORT"),
        (vec!["run", "api=127.0.0.1:0"], "services.api.instances[0].port is 0; allowed: 1 to 65535"),
        (vec!["run", "--listen", "localhost:80", "api=a:1"], "--listen localhost:80 is no address; allowed: an IP"),
        (vec!["run", "--admin", "0.0.0.0:9000", "api=a:1"], "admin.address is "),
    ] {
        let (code, text) = refused(&arguments);
        assert_eq!((code, text.lines().count()), (Some(2), 1), "{arguments:?}: {text}");
        assert!(text.starts_with("service-mesh: ") && text.contains(told), "{arguments:?}: {text}");
    }
}

#[test]
fn wrong_arguments_are_one_error_and_code_2() {
    for (arguments, told) in [
        (
            vec!["demo", "--speed", "fast"],
            "invalid value 'fast' for '--speed <SPEED>': allowed: a number from 0.1 to 4",
        ),
        (vec!["demo", "--speed", "9"], "allowed: a number from 0.1 to 4"),
        (vec!["demo", "now"], "unexpected argument 'now'"),
        (vec!["run"], "required arguments were not provided"),
        (vec!["run", "--threads", "0", "api=a:1"], "0 is not in 1..=1024"),
        (vec!["rum"], "unrecognized subcommand 'rum'"),
    ] {
        let (code, text) = refused(&arguments);
        assert_eq!((code, text.matches("error: ").count()), (Some(2), 1), "{arguments:?}: {text}");
        assert!(text.contains(told), "{arguments:?}: {text}");
    }
}

#[test]
fn what_cannot_be_listened_on_is_one_error_and_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (arguments, told) in [
        (vec!["run", "--listen", &taken, "api=a:1"], format!("cannot listen on {taken}: Address already in use")),
        (
            vec!["run", "--listen", "127.0.0.1:0", "--admin", &taken, "api=a:1"],
            format!("admin.address: cannot listen at {taken}: Address already in use"),
        ),
        (
            vec!["run", "--listen", "unix:/nowhere/mesh.sock", "api=a:1"],
            String::from("cannot listen on unix:/nowhere/mesh.sock: No such file or directory"),
        ),
    ] {
        let (code, text) = refused(&arguments);
        assert_eq!((code, text.lines().count()), (Some(1), 1), "{arguments:?}: {text}");
        assert!(text.starts_with(&format!("service-mesh: {told}")), "{arguments:?}: {text}");
    }
}

#[test]
fn help_is_there_for_each_command_and_is_no_mistake() {
    for command in ["demo", "run", "check", "schema"] {
        let output = output(&[command, "--help"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains(&format!("Usage: service-mesh {command}")), "{text}");
    }
}
