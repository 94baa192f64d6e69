//! The access log: a line of JSON for a request, written where nobody waits for it.
//!
//! A request that is to be written down gathers what there is to tell ([`Record`]) and leaves it in a queue when its answer
//! has passed; a thread of its own makes lines of them and writes as many at once as there are. Where that thread cannot
//! keep up, because a disk hangs or whoever reads a pipe has stopped, records are dropped and counted.
//!
//! Of the target only the path is written: what stands behind the `?` is often nobody else's affair.

use std::borrow::Cow;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use http::{Method, Uri};
use serde_json::Value;
use service_mesh::{AccessLogConfig, AccessLogMode, Chance};

use crate::listener::Listener;
use crate::replay::Replay;
use crate::trace_context::{SpanId, TraceContext};

/// So many records wait to be written.
const QUEUE: usize = 8192;

/// A path or a host that has more bytes is written in part.
const LONGEST: usize = 2048;

/// So many are written at once at most.
const BATCH: usize = 512;

/// The access log of a sidecar. Clones are handles of the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct AccessLog(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    present: ArcSwapOption<Sink>,
    /// Ordering: Relaxed; a count that is told.
    dropped: AtomicU64,
    /// Ordering: Relaxed; a count that is told.
    written: AtomicU64,
}

/// Where lines go, and which.
pub(crate) struct Sink {
    config: AccessLogConfig,
    chance: Chance,
    queue: SyncSender<Box<Told>>,
    /// Nothing is ever sent; it ends when the thread has written its last line.
    done: Mutex<Receiver<()>>,
}

/// A request while it is served. Dropped, it is over, and is written down if it is to be.
#[derive(Debug)]
pub(crate) struct Record {
    log: AccessLog,
    sink: Arc<Sink>,
    began: Instant,
    request: Option<Replay>,
    told: Option<Box<Told>>,
}

/// What there is to tell of a request.
#[derive(Debug)]
pub(crate) struct Told {
    time: SystemTime,
    took: Duration,
    listener: Arc<Listener>,
    client: Option<IpAddr>,
    /// The method and the path; none where what came was no request.
    asked: Option<(Method, String)>,
    pub(crate) host: String,
    pub(crate) status: u16,
    /// The word for why the sidecar answered itself.
    pub(crate) refused: Option<&'static str>,
    pub(crate) service: Option<String>,
    pub(crate) instance: Option<String>,
    pub(crate) attempts: u32,
    pub(crate) trace: Option<TraceContext>,
    /// That of the last attempt.
    pub(crate) span: Option<SpanId>,
    request_bytes: u64,
    pub(crate) response_bytes: u64,
    /// Whether the answer has passed to its end.
    pub(crate) completed: bool,
}

impl AccessLog {
    /// What becomes of a request, if anything at all is written; costs one load where nothing is.
    pub(crate) fn begin(
        &self,
        listener: &Arc<Listener>,
        client: Option<IpAddr>,
        asked: Option<(&Method, &Uri)>,
    ) -> Option<Record> {
        let sink = Arc::clone(self.0.present.load().as_ref()?);
        let told = Told {
            time: SystemTime::now(),
            took: Duration::ZERO,
            listener: Arc::clone(listener),
            client,
            asked: asked.map(|(method, uri)| (method.clone(), short(uri.path()).into_owned())),
            host: String::new(),
            status: 0,
            refused: None,
            service: None,
            instance: None,
            attempts: 0,
            trace: None,
            span: None,
            request_bytes: 0,
            response_bytes: 0,
            completed: false,
        };
        let began = Instant::now();
        Some(Record { log: self.clone(), sink, began, request: None, told: Some(Box::new(told)) })
    }

    /// Opens what this configuration wants; `None` where it wants nothing. A file that is open already is opened anew, for
    /// it may have been moved away.
    pub(crate) fn open(&self, config: &AccessLogConfig) -> io::Result<Option<Sink>> {
        if config.mode() == AccessLogMode::Off {
            return Ok(None);
        }
        let out: Box<dyn Write + Send> = match config.path() {
            Some(path) => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
            None => Box::new(io::stdout()),
        };
        self.write_to(config, out).map(Some)
    }

    fn write_to(&self, config: &AccessLogConfig, out: Box<dyn Write + Send>) -> io::Result<Sink> {
        let (queue, records) = sync_channel(QUEUE);
        let (end, done) = sync_channel(0);
        let log = self.clone();
        thread::Builder::new().name(String::from("access-log")).spawn(move || {
            log.write(&records, out);
            drop(end);
        })?;
        Ok(Sink { config: config.clone(), chance: Chance::system(), queue, done: Mutex::new(done) })
    }

    /// Writes there from now on. What was begun before goes where it would have gone.
    pub(crate) fn put(&self, sink: Option<Sink>) {
        self.0.present.store(sink.map(Arc::new));
    }

    /// Records that were written, and records that were dropped since nobody could keep up.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.0.written.load(Ordering::Relaxed), self.0.dropped.load(Ordering::Relaxed))
    }

    /// Writes what is left, and nothing more; for no longer than this.
    pub(crate) fn close(&self, patience: Duration) {
        let Some(sink) = self.0.present.swap(None) else { return };
        // Requests that were cut off may hold it still; what they have to say comes too late.
        let Ok(sink) = Arc::try_unwrap(sink) else { return };
        let Sink { queue, done, .. } = sink;
        drop(queue);
        let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Where the thread hangs in a write, it ends with the process.
        let _ = done.recv_timeout(patience);
    }

    /// What the thread does, until nobody has anything to tell any more.
    fn write(&self, records: &Receiver<Box<Told>>, mut out: Box<dyn Write + Send>) {
        let mut text = Vec::new();
        while let Ok(first) = records.recv() {
            text.clear();
            let mut count = 0;
            for told in std::iter::once(first).chain(records.try_iter().take(BATCH - 1)) {
                told.write_line(&mut text);
                count += 1;
            }
            let written = out.write_all(&text).and_then(|()| out.flush());
            let counter = if written.is_ok() { &self.0.written } else { &self.0.dropped };
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }
}

impl Record {
    /// What there is to tell, for whoever has something to add.
    pub(crate) fn told(&mut self) -> &mut Told {
        self.told.as_mut().expect("it is taken when the record is dropped, and not before")
    }

    /// The request's body, of which the bytes are told at the end.
    pub(crate) fn request(&mut self, body: Replay) {
        self.request = Some(body);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Some(mut told) = self.told.take() else { return };
        let config = &self.sink.config;
        let has_failed = told.status >= 500 || told.status == 0 || !told.completed;
        let is_wanted = match config.mode() {
            AccessLogMode::Sampled => has_failed || self.sink.chance.ratio() < config.sample_ratio(),
            _ => true,
        };
        if !is_wanted {
            return;
        }
        told.took = self.began.elapsed();
        told.request_bytes = self.request.as_ref().map_or(0, Replay::received);
        if self.sink.queue.try_send(told).is_err() {
            self.log.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Told {
    fn write_line(&self, text: &mut Vec<u8>) {
        // In this order, which a map would not keep. Nothing can fail that is written to memory; a line is one whatever is
        // in it, since JSON escapes line ends.
        let mut before = '{';
        let mut put = |key: &str, value: Value| {
            let _ = write!(text, "{before}\"{key}\":{value}");
            before = ',';
        };
        put("time", rfc3339(self.time).into());
        put("listener", Value::from(self.listener.name.as_str()));
        put("client", self.client.map(|client| client.to_string()).into());
        put("method", self.asked.as_ref().map(|(method, _)| method.as_str()).into());
        put("host", short(&self.host).into());
        put("path", self.asked.as_ref().map(|(_, path)| path.as_str()).into());
        put("status", if self.status == 0 { Value::Null } else { self.status.into() });
        put("completed", self.completed.into());
        put("refused", self.refused.into());
        put("service", self.service.as_deref().into());
        put("instance", self.instance.as_deref().into());
        put("attempts", self.attempts.into());
        put("took_seconds", self.took.as_secs_f64().into());
        put("request_bytes", self.request_bytes.into());
        put("response_bytes", self.response_bytes.into());
        if let Some(trace) = &self.trace {
            put("trace_id", trace.trace_id().into());
            put("parent_span_id", trace.parent().to_string().into());
            put("span_id", self.span.map(|span| span.to_string()).into());
        }
        text.extend_from_slice(b"}\n");
    }
}

/// As much of it as a line holds. A request may be far longer, and thousands of lines may wait to be written.
fn short(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST {
        return Cow::Borrowed(text);
    }
    let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    Cow::Owned(format!("{}…", &text[..end]))
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("config", &self.config).finish_non_exhaustive()
    }
}

/// RFC 3339 in UTC, to the millisecond.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z")
}

/// The civil date of a day since 1970: eras of 400 years, which begin in March so that the leap day is the last (H.
/// Hinnant's `civil_from_days`).
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    /// Gives each write to the test.
    struct Pipe(mpsc::Sender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn config(mode: AccessLogMode, ratio: f64) -> AccessLogConfig {
        AccessLogConfig::builder().mode(mode).sample_ratio(ratio).build().unwrap()
    }

    fn log(mode: AccessLogMode, ratio: f64) -> (AccessLog, Receiver<Vec<u8>>) {
        let log = AccessLog::default();
        let (sender, receiver) = mpsc::channel();
        let mut sink = log.write_to(&config(mode, ratio), Box::new(Pipe(sender))).unwrap();
        sink.chance = Chance::seeded(1);
        log.put(Some(sink));
        (log, receiver)
    }

    fn begin(log: &AccessLog) -> Option<Record> {
        let listener = Listener::new("web", service_mesh::ListenerLimitsConfig::default(), Arc::default());
        let uri = Uri::from_static("/pay/7?card=42");
        log.begin(&listener, Some([10, 0, 0, 9].into()), Some((&Method::GET, &uri)))
    }

    fn request(log: &AccessLog, status: u16) {
        let mut record = begin(log).unwrap();
        let told = record.told();
        (told.status, told.completed) = (status, true);
    }

    /// Every line that was written until it was closed.
    fn lines(log: &AccessLog, written: &Receiver<Vec<u8>>) -> Vec<Value> {
        log.close(Duration::from_secs(20));
        let text = written.iter().collect::<Vec<_>>().concat();
        String::from_utf8(text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_tells_what_became_of_a_request() {
        let (log, written) = log(AccessLogMode::All, 1.0);
        let mut record = begin(&log).unwrap();
        let told = record.told();
        (told.host, told.status, told.completed) = (String::from("shop.example\n"), 503, true);
        (told.refused, told.service, told.attempts) = (Some("circuit_open"), Some(String::from("pay")), 2);
        drop(record);
        drop(begin(&log));
        let lines = lines(&log, &written);
        let line = &lines[0];
        assert_eq!(
            (&line["client"], &line["path"], &line["status"]),
            (&"10.0.0.9".into(), &"/pay/7".into(), &503.into())
        );
        assert_eq!((&line["refused"], &line["attempts"]), (&"circuit_open".into(), &2.into()));
        assert_eq!(line["host"], "shop.example\n");
        assert!(line.get("trace_id").is_none());
        assert_eq!(
            (&lines[1]["status"], &lines[1]["completed"]),
            (&Value::Null, &false.into()),
            "nobody waited for it"
        );
        assert_eq!(log.counts(), (2, 0));
    }

    #[test]
    fn the_keys_stand_in_the_order_of_the_page() {
        let (log, written) = log(AccessLogMode::All, 1.0);
        let mut record = begin(&log).unwrap();
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let header = (HeaderName::from_static("traceparent"), HeaderValue::from_static(traceparent));
        record.told().trace = TraceContext::take(&mut HeaderMap::from_iter([header]));
        drop(record);
        log.close(Duration::from_secs(20));
        let line = String::from_utf8(written.iter().collect::<Vec<_>>().concat()).unwrap();
        let page = include_str!("../../../docs/book/sidecar-operation.md");
        let example = page.lines().find(|line| line.starts_with("{\"time\":")).unwrap();
        // What stands before a colon, and in quotes, is a key here: no value has both.
        let keys = |line: &str| -> Vec<String> {
            let known = |part: &str| part.rsplit(['{', ',']).next().map(|key| key.trim_matches('"').to_owned());
            line.split("\":").filter_map(known).collect::<Vec<_>>().split_last().unwrap().1.to_vec()
        };
        assert_eq!(keys(&line), keys(example));
    }

    #[test]
    fn off_writes_nothing_and_sampled_a_share_and_every_failure() {
        assert!(begin(&AccessLog::default()).is_none());
        assert!(AccessLog::default().open(&config(AccessLogMode::Off, 1.0)).unwrap().is_none());
        let (log, written) = log(AccessLogMode::Sampled, 0.1);
        (0..1000).for_each(|_| request(&log, 200));
        (0..10).for_each(|_| request(&log, 502));
        drop(begin(&log));
        let lines = lines(&log, &written);
        let count = |status: Value| lines.iter().filter(|line| line["status"] == status).count();
        assert!((50..200).contains(&count(200.into())), "{}", lines.len());
        assert_eq!((count(502.into()), count(Value::Null)), (10, 1));
    }

    #[test]
    fn who_cannot_keep_up_loses_lines_and_holds_nobody_up() {
        struct Stuck(Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                Err(io::Error::other("gone"))
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let log = AccessLog::default();
        let (free, stuck) = mpsc::channel();
        log.put(Some(log.write_to(&config(AccessLogMode::All, 1.0), Box::new(Stuck(stuck))).unwrap()));
        let requests = u32::try_from(QUEUE + BATCH + 100).unwrap();
        (0..requests).for_each(|_| request(&log, 200));
        assert!(log.counts().1 >= 100 && log.counts().0 == 0);
        drop(free);
        log.close(Duration::from_secs(20));
        assert_eq!(log.counts(), (0, u64::from(requests)), "what cannot be written is dropped, too");
    }

    #[test]
    fn a_file_is_added_to_and_may_be_moved_away() {
        let path = std::env::temp_dir().join(format!("service-mesh-access-{}.jsonl", std::process::id()));
        let moved = path.with_extension("1");
        let config =
            AccessLogConfig::builder().mode(AccessLogMode::All).path(path.display().to_string()).build().unwrap();
        let log = AccessLog::default();
        log.put(log.open(&config).unwrap());
        request(&log, 200);
        log.close(Duration::from_secs(20));
        std::fs::rename(&path, &moved).unwrap();
        log.put(log.open(&config).unwrap());
        request(&log, 201);
        log.close(Duration::from_secs(20));
        let read = |path| std::fs::read_to_string(path).unwrap();
        assert!(read(&moved).contains("\"status\":200") && read(&path).contains("\"status\":201"));
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&moved).unwrap();
        assert!(
            log.open(
                &AccessLogConfig::builder().mode(AccessLogMode::All).path("/no/such/place".to_owned()).build().unwrap()
            )
            .is_err()
        );
    }

    #[test]
    fn what_is_too_long_is_told_in_part() {
        assert_eq!(short(&"/".repeat(LONGEST)), "/".repeat(LONGEST));
        let path = format!("/{}", "ä".repeat(LONGEST));
        let told = short(&path);
        assert!(told.len() < LONGEST + 4 && told.ends_with("ä…") && path.starts_with(told.trim_end_matches('…')));
    }

    #[test]
    fn a_time_is_told_in_utc() {
        let at = |seconds, millis: u32| rfc3339(UNIX_EPOCH + Duration::new(seconds, millis * 1_000_000));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_399, 999), "2000-02-28T23:59:59.999Z");
        assert_eq!(at(951_782_400, 0), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_795_324_262, 7), "2026-11-22T05:11:02.007Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
    }
}
