//! A client that speaks raw.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::upstream::field;

/// A connection to the sidecar.
pub(crate) struct Client<S = TcpStream> {
    stream: BufReader<S>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The body came to its end as its framing says.
    pub(crate) is_whole: bool,
    pub(crate) trailers: Vec<String>,
}

impl Reply {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Why the sidecar refused, if it was the sidecar.
    pub(crate) fn refused(&self) -> Option<&str> {
        self.field("x-service-mesh-refused")
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::new(stream)
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        let _ = self.stream.into_inner().set_zero_linger();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The sidecar may refuse to hear it to its end.
        let _ = self.stream.get_mut().write_all(bytes.as_ref()).await;
    }

    /// Says that it sends no more.
    pub(crate) async fn half_close(&mut self) {
        self.stream.get_mut().shutdown().await.unwrap();
    }

    /// The response to what was asked by GET; none if the connection ends instead.
    pub(crate) async fn reply(&mut self) -> Option<Reply> {
        self.reply_to("GET").await
    }

    pub(crate) async fn reply_to(&mut self, method: &str) -> Option<Reply> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                assert!(head.is_empty(), "a head that breaks off: {head}");
                return None;
            }
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply { status, head, body: Vec::new(), is_whole: true, trailers: Vec::new() };
        if method == "HEAD" || status == 204 || status == 304 || status < 200 {
            return Some(reply);
        }
        if let Some(length) = reply.field("content-length").map(|length| length.parse::<u64>().unwrap()) {
            let _ = (&mut self.stream).take(length).read_to_end(&mut reply.body).await;
            reply.is_whole = reply.body.len() as u64 == length;
        } else if reply.field("transfer-encoding").is_some() {
            reply.is_whole = self.chunks(&mut reply).await.is_some();
        } else {
            let _ = self.stream.read_to_end(&mut reply.body).await;
        }
        Some(reply)
    }

    async fn chunks(&mut self, reply: &mut Reply) -> Option<()> {
        loop {
            let length = usize::from_str_radix(self.line().await?.trim(), 16).ok()?;
            if length == 0 {
                break;
            }
            let mut chunk = vec![0; length + 2];
            self.stream.read_exact(&mut chunk).await.ok()?;
            reply.body.extend_from_slice(&chunk[..length]);
        }
        loop {
            let line = self.line().await?;
            if line.trim().is_empty() {
                return Some(());
            }
            reply.trailers.push(line.trim().to_owned());
        }
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.stream.read_line(&mut line).await.ok()? > 0).then_some(line)
    }

    /// Reads the head of a request, for one that answers over this.
    pub(crate) async fn skip_head(&mut self) -> Option<()> {
        while !self.line().await?.trim().is_empty() {}
        Some(())
    }

    /// One more byte, if any comes.
    pub(crate) async fn byte(&mut self) -> Option<u8> {
        self.stream.read_u8().await.ok()
    }

    pub(crate) async fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    /// Asks for a path, and for the answer.
    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n")).await;
        self.reply().await.expect("the sidecar answers")
    }

    /// Sends a body with a length.
    pub(crate) async fn put(&mut self, method: &str, path: &str, body: &str) -> Reply {
        let length = body.len();
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {length}\r\n\r\n{body}"))
            .await;
        self.reply_to(method).await.expect("the sidecar answers")
    }
}
