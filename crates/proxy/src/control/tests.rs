use super::*;

fn drain(delay: u64, deadline: u64) -> DrainConfig {
    let seconds = Duration::from_secs;
    DrainConfig::builder().delay(seconds(delay)).deadline(seconds(deadline)).build().unwrap()
}

/// How it ended, and after how many seconds.
async fn ended(shutdown: &Shutdown, signal: Signal, signals: &mut Signals) -> (Ended, u64) {
    let began = tokio::time::Instant::now();
    let ended = end(shutdown, &drain(5, 20), signal, signals).await;
    (ended, began.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn it_is_not_ready_first_then_lets_nobody_in_and_ends_when_nothing_is_in_flight() {
    let (shutdown, mut drain) = Shutdown::new();
    let connection = tokio::spawn(async move {
        let began = tokio::time::Instant::now();
        drain.reached(Phase::Leaving).await;
        let leaving = began.elapsed().as_secs();
        drain.reached(Phase::Closing).await;
        let closing = began.elapsed().as_secs();
        // The answer in flight takes so long.
        sleep(Duration::from_secs(7)).await;
        (leaving, closing)
    });
    let (_sender, mut signals) = Signals::given();
    assert_eq!(ended(&shutdown, Signal::Terminate, &mut signals).await, (Ended::Clean, 12));
    assert_eq!(connection.await.unwrap(), (0, 5));
}

#[tokio::test(start_paused = true)]
async fn at_a_terminal_nobody_waits_for_others_to_notice() {
    let (shutdown, drain) = Shutdown::new();
    drop(drain);
    let (_sender, mut signals) = Signals::given();
    assert_eq!(ended(&shutdown, Signal::Interrupt, &mut signals).await, (Ended::Clean, 0));
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_what_is_left_is_cut() {
    let (shutdown, mut drain) = Shutdown::new();
    let connection = tokio::spawn(async move { drain.reached(Phase::Ended).await });
    let (_sender, mut signals) = Signals::given();
    assert_eq!(ended(&shutdown, Signal::Terminate, &mut signals).await, (Ended::Cut, 25));
    connection.await.unwrap();
    // One that does not even notice that does not hold it up either.
    let (shutdown, _drain) = Shutdown::new();
    assert_eq!(ended(&shutdown, Signal::Interrupt, &mut signals).await, (Ended::Cut, 21));
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_does_not_wait_and_a_reload_is_none() {
    let (shutdown, drain) = Shutdown::new();
    let (sender, mut signals) = Signals::given();
    tokio::spawn(async move {
        sleep(Duration::from_secs(2)).await;
        sender.send(Signal::Reload).unwrap();
        sleep(Duration::from_secs(1)).await;
        sender.send(Signal::Interrupt).unwrap();
    });
    assert_eq!(ended(&shutdown, Signal::Terminate, &mut signals).await, (Ended::AtOnce, 3));
    assert_eq!(drain.phase(), Phase::Ended);
}

fn control(text: &str) -> (Control, crate::Drain) {
    let mesh: Mesh = text.parse().unwrap();
    let (shutdown, drain) = Shutdown::new();
    let applied = mesh.clone();
    let apply = move |text: &str, _: &PolicyFile| applied.reload(text).map_err(|mistakes| mistakes.to_string());
    (Control::start(&Sidecar::new(mesh), shutdown, Box::new(apply)).unwrap(), drain)
}

fn apply(control: &mut Control, text: &str) -> Result<String, String> {
    control.put_in_force(&Ok(text.to_owned()))
}

const PAGES: &str = "[admin]\naddress = '127.0.0.1:0'";

#[tokio::test]
async fn a_text_with_a_mistake_changes_nothing() {
    let (mut control, _drain) = control("[services.a]");
    assert_eq!(
        apply(&mut control, "[services.a]\nretri = 1").unwrap_err(),
        "2:1: services.a.retri is unknown; did you mean retry?"
    );
    assert_eq!(apply(&mut control, "[services.a]\n[services.b]").unwrap(), "b: added");
}

#[tokio::test]
async fn another_place_for_the_pages_is_bound_before_anything_changes() {
    let (mut control, _drain) = control(&format!("[services.a]\n{PAGES}"));
    let Some(ListenAddress::Tcp(first)) = control.admin_address().cloned() else { panic!("it listens") };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let refused = apply(&mut control, &format!("[services.b]\n[admin]\naddress = '{address}'")).unwrap_err();
    assert!(refused.starts_with(&format!("admin.address: cannot listen at {address}")), "{refused}");
    assert!(control.surroundings.mesh.service("a").is_some());
    assert_eq!(control.admin_address(), Some(&ListenAddress::Tcp(first)));
    drop(taken);
    apply(&mut control, &format!("[admin]\naddress = '{address}'")).unwrap();
    assert_eq!(control.admin_address(), Some(&address.into()));
    assert!(std::net::TcpStream::connect(address).is_ok());
    // The same place with another token is the same listener anew.
    apply(&mut control, &format!("[admin]\naddress = '{address}'\ntoken = '0123456789abcdef'")).unwrap();
    assert_eq!(control.admin_address(), Some(&address.into()));
    apply(&mut control, "").unwrap();
    assert_eq!(control.admin_address(), None);
}

#[tokio::test]
async fn a_file_is_followed_and_a_signal_reads_it_at_once() {
    let path = std::env::temp_dir().join(format!("service-mesh-control-{}.toml", std::process::id()));
    std::fs::write(&path, "[services.a]").unwrap();
    let (control, drain) = control("[services.a]");
    let surroundings = Arc::clone(&control.surroundings);
    let (sender, signals) = Signals::given();
    let running = tokio::spawn(control.following(&path, "[services.a]").run(signals));
    let until = |wanted: fn(&Surroundings) -> bool| {
        let surroundings = Arc::clone(&surroundings);
        async move {
            while !wanted(&surroundings) {
                tokio::task::yield_now().await;
            }
        }
    };
    std::fs::write(&path, "[services.b]").unwrap();
    sender.send(Signal::Reload).unwrap();
    until(|surroundings| surroundings.mesh.service("b").is_some()).await;
    std::fs::write(&path, "[services.c").unwrap();
    sender.send(Signal::Reload).unwrap();
    until(|surroundings| surroundings.reloads().told(surroundings.now())["reloads_refused"] == 1).await;
    let told = surroundings.reloads().told(surroundings.now())["refused"]["why"].to_string();
    assert!(told.starts_with(&format!("\"{}:1:12: not TOML", path.display())), "{told}");
    assert!(surroundings.mesh.service("b").is_some(), "what was in force stays");
    std::fs::remove_file(&path).unwrap();
    drop(drain);
    sender.send(Signal::Interrupt).unwrap();
    assert_eq!(running.await.unwrap(), Ended::Clean);
}

#[tokio::test]
async fn a_file_that_hangs_keeps_nobody_from_ending_it() {
    let path = std::env::temp_dir().join(format!("service-mesh-hangs-{}.toml", std::process::id()));
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let (control, drain) = control("[services.a]");
    drop(drain);
    let (sender, signals) = Signals::given();
    let running = tokio::spawn(control.following(&path, "[services.a]").run(signals));
    // It can be opened as soon as somebody reads it, who then waits for the end of what is written.
    let written = path.clone();
    let writer = tokio::task::spawn_blocking(|| std::fs::OpenOptions::new().write(true).open(written).unwrap());
    let writer = writer.await.unwrap();
    sender.send(Signal::Reload).unwrap();
    sender.send(Signal::Interrupt).unwrap();
    let ended = timeout(Duration::from_secs(20), running).await;
    drop(writer);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(ended.expect("it ends").unwrap(), Ended::Clean);
}
