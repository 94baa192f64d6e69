//! An instance that does what its script says, byte by byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// An instance. Dropped, it is gone, with all its connections.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    task: JoinHandle<()>,
}

/// What has come to an instance.
#[derive(Default)]
pub(crate) struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
    ended: AtomicUsize,
    change: tokio::sync::Notify,
}

impl Seen {
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Waits until so many heads of requests have come.
    pub(crate) async fn has_requests(&self, count: usize) {
        self.wait(|| self.requests() >= count).await;
    }

    /// Waits until so many connections have been ended by the sidecar.
    pub(crate) async fn has_ended(&self, count: usize) {
        self.wait(|| self.ended.load(Ordering::SeqCst) >= count).await;
    }

    async fn wait(&self, is_so: impl Fn() -> bool) {
        loop {
            let mut change = std::pin::pin!(self.change.notified());
            change.as_mut().enable();
            if is_so() {
                return;
            }
            change.await;
        }
    }

    fn count(&self, what: &AtomicUsize) {
        what.fetch_add(1, Ordering::SeqCst);
        self.change.notify_waiters();
    }
}

/// A connection that the sidecar has made.
pub(crate) struct Wire {
    stream: BufReader<TcpStream>,
    seen: Arc<Seen>,
}

impl Upstream {
    /// Runs the script for each connection.
    pub(crate) async fn start<F, Fut>(script: F) -> Self
    where
        F: Fn(Wire) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script).await
    }

    /// The same at this address, where another may have been.
    pub(crate) async fn start_at<F, Fut>(address: SocketAddr, script: F) -> Self
    where
        F: Fn(Wire) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Seen>::default();
        let task = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                let mut connections = tokio::task::JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    seen.count(&seen.connections);
                    let seen = Arc::clone(&seen);
                    connections.spawn(script(Wire { stream: BufReader::new(stream), seen }));
                }
            }
        });
        Self { address, seen, task }
    }

    /// Answers each request, whose body has a length or none, with these bytes.
    pub(crate) async fn answering(response: impl Into<String>) -> Self {
        let response: Arc<str> = response.into().into();
        Self::start(move |mut wire| {
            let response = Arc::clone(&response);
            async move {
                while let Some(head) = wire.head().await {
                    wire.body(&head).await;
                    wire.write(&*response).await;
                }
            }
        })
        .await
    }

    /// An address where nobody listens.
    pub(crate) async fn absent() -> Self {
        let upstream = Self::start(|_| async {}).await;
        upstream.task.abort();
        let task = tokio::spawn(async {});
        while std::net::TcpStream::connect(upstream.address).is_ok() {
            tokio::task::yield_now().await;
        }
        Self { address: upstream.address, seen: Arc::clone(&upstream.seen), task }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wire {
    /// The head of the next request, with the line that ends it; none if there is none.
    pub(crate) async fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        loop {
            let read = self.stream.read_line(&mut head).await.unwrap_or(0);
            if read == 0 {
                self.seen.count(&self.seen.ended);
                return None;
            }
            if head.ends_with("\r\n\r\n") {
                self.seen.count(&self.seen.requests);
                return Some(head);
            }
        }
    }

    /// The body that the head announces, as it comes over the wire without its chunks; what is there of it if it breaks
    /// off.
    pub(crate) async fn body(&mut self, head: &str) -> Vec<u8> {
        let mut body = Vec::new();
        self.read_body(head, &mut body).await;
        body
    }

    /// The same; none if it breaks off.
    pub(crate) async fn whole_body(&mut self, head: &str) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        self.read_body(head, &mut body).await.then_some(body)
    }

    /// Whether it came to its end.
    async fn read_body(&mut self, head: &str, body: &mut Vec<u8>) -> bool {
        if let Some(length) = field(head, "content-length") {
            let length = length.parse().unwrap();
            *body = self.bytes(length).await;
            return body.len() == length;
        }
        if field(head, "transfer-encoding").is_some() {
            loop {
                match self.chunk().await {
                    None => return false,
                    Some(chunk) if chunk.is_empty() => return true,
                    Some(chunk) => body.extend(chunk),
                }
            }
        }
        true
    }

    /// One chunk; none if the connection ends. The last is empty, and what is behind it is read too.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return None;
        }
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        if length == 0 {
            let mut end = String::new();
            while self.stream.read_line(&mut end).await.unwrap_or(0) > 2 {}
            return Some(Vec::new());
        }
        let chunk = self.bytes(length).await;
        self.bytes(2).await;
        Some(chunk)
    }

    /// Lines until an empty one.
    pub(crate) async fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).await.unwrap_or(0) <= 2 {
                return lines;
            }
            lines.push(line.trim_end().to_owned());
        }
    }

    pub(crate) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = (&mut self.stream).take(count as u64).read_to_end(&mut bytes).await;
        bytes
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        // The sidecar may have gone, which is its business.
        let _ = self.stream.get_mut().write_all(bytes.as_ref()).await;
    }

    /// Waits until the sidecar ends the connection, and does nothing.
    pub(crate) async fn hang(&mut self) {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest).await;
        self.seen.count(&self.seen.ended);
    }

    /// The connection itself, from its beginning.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream.into_inner()
    }

    /// Whether the sidecar has ended the connection, without a wait for it.
    pub(crate) async fn is_ended(&mut self) -> bool {
        tokio::task::yield_now().await;
        let mut byte = [0];
        let stream = self.stream.get_mut();
        matches!(stream.try_read(&mut byte), Ok(0)) || stream.take_error().is_ok_and(|error| error.is_some())
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        self.die_hard();
    }

    /// When it ends, it ends with a reset, as that of a process that is killed with bytes unread.
    pub(crate) fn die_hard(&self) {
        let _ = self.stream.get_ref().set_zero_linger();
    }
}

/// The value of a field in a head, without blanks; the first of several.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// A response with a length.
pub(crate) fn response(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
