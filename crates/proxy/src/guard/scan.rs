//! Reads along with the parser, and notices what the parser would repair.
//!
//! A parser that is lenient forgets what it was lenient about: that a line ended without CR, that there was a length
//! beside a transfer coding. The next server in the chain may be lenient in another way, and that is all that smuggling
//! needs. So the bytes of each connection pass by here on their way to the parser. Nothing is kept of them but the line
//! that is not at its end yet.
//!
//! It follows the framing on its own: head, then a body with a length or in chunks, then the next head. Where it can
//! follow no more, it says so for the request after, so that nobody builds on what was not seen.

use std::sync::OnceLock;

use memchr::memchr;

use super::Fault;

/// What was noticed on one connection: which of its requests is at fault, counted from 0, and why.
#[derive(Debug, Default)]
pub(crate) struct Finding(OnceLock<(u64, Fault)>);

impl Finding {
    /// What is wrong with this request.
    pub(crate) fn of_request(&self, number: u64) -> Option<Fault> {
        // What comes behind a request at fault is never looked at: the connection has ended.
        self.0.get().filter(|(at, _)| *at <= number).map(|(_, fault)| *fault)
    }
}

/// Reads along on one connection.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    place: Place,
    /// The beginning of a line whose end has not come, as far as it matters.
    line: Vec<u8>,
    /// The byte before this piece.
    last: u8,
    head: Head,
    /// The request that is read, counted from 0.
    number: u64,
    /// The last request was HTTP/1.0, which knows no interim responses.
    is_old: bool,
    /// There is a fragment in the line of the request, as far as it was read.
    has_fragment: bool,
}

/// Where in the stream the next byte is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    RequestLine,
    Field,
    /// In a body or a chunk of which so much is to come; then on to the next.
    Data(u64, Next),
    ChunkSize,
    ChunkEnd,
    Trailer,
    /// Lost, or told to end.
    Nowhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Request,
    ChunkEnd,
}

/// What the fields that were read say of the body.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    length: Option<u64>,
    is_chunked: bool,
    has_coding: bool,
}

/// No line that matters is longer: a number, a coding.
const LINE: usize = 256;

/// Nothing that was seen so far is wrong.
type Fine = Result<(), Fault>;

impl Scanner {
    /// The client has sent these. What is wrong with them goes to `finding`.
    pub(crate) fn read(&mut self, mut bytes: &[u8], finding: &Finding) {
        while !bytes.is_empty() {
            match self.place {
                Place::Nowhere => return,
                Place::Data(left, next) => {
                    let passed = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[passed..];
                    self.last = 0;
                    let left = left - passed as u64;
                    self.place = match (left, next) {
                        (0, Next::Request) => self.next_request(),
                        (0, Next::ChunkEnd) => Place::ChunkEnd,
                        _ => Place::Data(left, next),
                    };
                }
                _ => {
                    let Some(end) = memchr(b'\n', bytes) else {
                        self.begin(bytes);
                        return;
                    };
                    let fine = self.end_of_line(&bytes[..end]);
                    bytes = &bytes[end + 1..];
                    if let Err(fault) = fine {
                        // A chunk's fault is the body's, and the parser's to tell; here it is the next request that
                        // nobody knows the beginning of.
                        let in_body = matches!(self.place, Place::ChunkSize | Place::ChunkEnd | Place::Trailer);
                        let _ = finding.0.set((self.number + u64::from(in_body), fault));
                        self.place = Place::Nowhere;
                    }
                }
            }
        }
    }

    /// Whether the body of the present request has come to its end.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.place == Place::RequestLine && self.line.is_empty()
    }

    /// Whether a whole request has been read, body included.
    pub(crate) fn has_read_a_request(&self) -> bool {
        self.number > 0
    }

    /// Whether whoever sent the last request takes interim responses.
    pub(crate) fn takes_interim(&self) -> bool {
        !self.is_old
    }

    fn next_request(&mut self) -> Place {
        self.number += 1;
        self.head = Head::default();
        Place::RequestLine
    }

    /// A line whose end is to come.
    fn begin(&mut self, bytes: &[u8]) {
        self.has_fragment |= self.place == Place::RequestLine && memchr(b'#', bytes).is_some();
        let room = LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.last = bytes[bytes.len() - 1];
    }

    /// The end of a line, up to its LF.
    fn end_of_line(&mut self, end: &[u8]) -> Fine {
        let last = end.last().copied().unwrap_or(self.last);
        self.last = 0;
        //= https://www.rfc-editor.org/rfc/rfc9112#section-2.2
        //# Although the line terminator for the start-line and fields is the
        //# sequence CRLF, a recipient MAY recognize a single LF as a line
        //# terminator and ignore any preceding CR.
        //
        // It may, and some do not: that is the ambiguity.
        if last != b'\r' {
            return Err(Fault::bad("a line that ends without CR"));
        }
        if self.place == Place::RequestLine {
            //= https://www.rfc-editor.org/rfc/rfc9112#section-3.2.1
            //# origin-form = absolute-path [ "?" query ]
            //
            // A fragment has no place in it, and the parser would cut it off.
            if std::mem::take(&mut self.has_fragment) || memchr(b'#', end).is_some() {
                return Err(Fault::bad("a fragment in the target"));
            }
        }
        if self.line.is_empty() {
            return self.line(&end[..end.len() - 1]);
        }
        let mut line = std::mem::take(&mut self.line);
        let room = LINE.saturating_sub(line.len());
        line.extend_from_slice(&end[..end.len().min(room)]);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        let fine = self.line(&line);
        line.clear();
        self.line = line;
        fine
    }

    fn line(&mut self, line: &[u8]) -> Fine {
        match self.place {
            //= https://www.rfc-editor.org/rfc/rfc9112#section-2.2
            //# In the interest of robustness, a server that is expecting to receive
            //# and parse a request-line SHOULD ignore at least one empty line (CRLF)
            //# received prior to the request-line.
            Place::RequestLine => {
                if !line.is_empty() {
                    self.is_old = line.ends_with(b"HTTP/1.0");
                    self.place = Place::Field;
                }
                Ok(())
            }
            Place::Field if line.is_empty() => {
                self.place = match self.head {
                    Head { is_chunked: true, .. } => Place::ChunkSize,
                    Head { length: Some(length @ 1..), .. } => Place::Data(length, Next::Request),
                    _ => self.next_request(),
                };
                Ok(())
            }
            Place::Field => self.field(line),
            Place::ChunkSize => {
                let size = chunk_size(line).ok_or(Fault::bad("a chunk that has no proper size"))?;
                self.place = if size == 0 { Place::Trailer } else { Place::Data(size, Next::ChunkEnd) };
                Ok(())
            }
            Place::ChunkEnd if line.is_empty() => {
                self.place = Place::ChunkSize;
                Ok(())
            }
            Place::ChunkEnd => Err(Fault::bad("a chunk that is longer than its size")),
            Place::Trailer => {
                if line.is_empty() {
                    self.place = self.next_request();
                }
                Ok(())
            }
            Place::Data(..) | Place::Nowhere => Ok(()),
        }
    }

    fn field(&mut self, line: &[u8]) -> Fine {
        // Nearly every line ends here.
        if !matches!(line.first(), Some(b'c' | b'C' | b't' | b'T')) {
            return Ok(());
        }
        let Some(colon) = memchr(b':', line) else { return Ok(()) };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = decimal(value).ok_or(Fault::bad("a length that is no number"))?;
            //= https://www.rfc-editor.org/rfc/rfc9112#section-6.3
            //# If a message is received without Transfer-Encoding and with an
            //# invalid Content-Length header field, then the message framing is
            //# invalid and the recipient MUST treat it as an unrecoverable error
            if self.head.length.replace(length).is_some() {
                return Err(Fault::bad("several lengths"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.head.has_coding = true;
            self.head.is_chunked = value.eq_ignore_ascii_case(b"chunked");
        } else {
            return Ok(());
        }
        //= https://www.rfc-editor.org/rfc/rfc9112#section-6.3
        //# If a message is received with both a Transfer-Encoding and a
        //# Content-Length header field, the Transfer-Encoding overrides the
        //# Content-Length. Such a message might indicate an attempt to perform
        //# request smuggling (Section 11.2) or response splitting (Section 11.1)
        //# and ought to be handled as an error.
        if self.head.has_coding && self.head.length.is_some() {
            return Err(Fault::bad("a length beside a transfer coding"));
        }
        Ok(())
    }
}

//= https://www.rfc-editor.org/rfc/rfc9110#section-8.6
//# Content-Length = 1*DIGIT
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

//= https://www.rfc-editor.org/rfc/rfc9112#section-7.1
//# chunk-size = 1*HEXDIG
fn chunk_size(line: &[u8]) -> Option<u64> {
    let size = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    // Not `0x3` and not `+3`, which `from_str_radix` or others take.
    if size.is_empty() || size.len() > 15 || !size.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is found in a stream, however it is cut into pieces.
    fn found(stream: &str) -> Option<(u64, &'static str)> {
        let mut whole = None;
        for piece in (1..stream.len().max(2)).rev() {
            let (mut scanner, finding) = (Scanner::default(), Finding::default());
            for bytes in stream.as_bytes().chunks(piece) {
                scanner.read(bytes, &finding);
            }
            let found = finding.0.get().map(|(number, fault)| (*number, fault.rule));
            assert_eq!(*whole.get_or_insert(found), found, "in pieces of {piece}: {stream:?}");
        }
        whole?
    }

    #[test]
    fn proper_requests_are_followed_one_after_the_other() {
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let sized = "POST / HTTP/1.1\r\ncontent-length:  13 \r\nHost: a\r\n\r\nContent-\nA:\n\n";
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n\
                       3\r\n\n\n\n\r\nA ;x=y\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n";
        let bad = "GET / HTTP/1.1\nHost: a\r\n\r\n";
        for (stream, number) in [
            (format!("{get}{get}"), 2),
            (format!("{sized}{chunked}{get}{sized}"), 4),
            (format!("\r\n{chunked}\r\n{get}"), 2),
            (format!("{}{get}", get.replace("Host", &format!("X-Long: {}\r\nHost", "x".repeat(1000)))), 2),
        ] {
            assert_eq!(found(&stream), None, "{stream}");
            assert_eq!(found(&format!("{stream}{bad}")), Some((number, "a line that ends without CR")), "{stream}");
        }
    }

    #[test]
    fn what_a_parser_would_repair_is_found() {
        for (head, rule) in [
            ("Content-Length: 3\r\nTransfer-Encoding: chunked", "a length beside a transfer coding"),
            ("Transfer-Encoding: chunked\r\nContent-Length: 3", "a length beside a transfer coding"),
            ("transfer-encoding: x\r\nCONTENT-LENGTH: 3", "a length beside a transfer coding"),
            ("Content-Length: 3\r\nContent-Length: 3", "several lengths"),
            ("Content-Length: 3, 3", "a length that is no number"),
            ("Content-Length: +3", "a length that is no number"),
            ("Content-Length: ", "a length that is no number"),
            ("Content-Length: 99999999999999999999", "a length that is no number"),
            ("X: 1\nY: 2", "a line that ends without CR"),
            ("\r\nGET /#a HTTP/1.1", "a fragment in the target"),
        ] {
            let found = found(&format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n"));
            assert_eq!(found.map(|(_, rule)| rule), Some(rule), "{head}");
        }
    }

    #[test]
    fn where_a_body_cannot_be_followed_the_next_request_is_at_fault() {
        for body in
            ["0x3\r\n", "3 3\r\n", "\r\n", "+3\r\n", "3\nabc\r\n", "3\r\nabcd\r\n", "fffffffffffffffff\r\n", "0\n"]
        {
            let stream = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
            assert_eq!(found(&stream).map(|(number, _)| number), Some(1), "{body:?}");
        }
    }

    /// One request that is as it should be.
    fn request() -> impl Strategy<Value = Vec<u8>> {
        let field = "X-[a-z]{0,5}: [ -~]{0,300}\r\n";
        let data = || proptest::collection::vec(any::<u8>(), 0..40);
        let sized =
            data().prop_map(|data| [format!("Content-Length: {}\r\n\r\n", data.len()).into_bytes(), data].concat());
        let chunk = (data(), "(;[a-z]{1,3}=[a-z]{1,3}){0,2}").prop_map(|(data, extension)| {
            let size = format!("{:x}{extension}\r\n", data.len());
            if data.is_empty() { Vec::new() } else { [size.as_bytes(), data.as_slice(), b"\r\n"].concat() }
        });
        let chunked = (proptest::collection::vec(chunk, 0..4), "(X-[a-z]: [a-z]{0,9}\r\n){0,2}").prop_map(
            |(chunks, trailers)| {
                let end = format!("0\r\n{trailers}\r\n");
                [b"Transfer-Encoding: chunked\r\n\r\n", chunks.concat().as_slice(), end.as_bytes()].concat()
            },
        );
        let rest = prop_oneof![Just(b"\r\n".to_vec()), sized, chunked];
        ("(\r\n){0,2}[A-Z]{1,9} /[a-z/]{0,300} HTTP/1\\.[01]\r\n", proptest::collection::vec(field, 0..4), rest)
            .prop_map(|(line, fields, rest)| [line.into_bytes(), fields.concat().into_bytes(), rest].concat())
    }

    fn scanned(stream: &[u8], pieces: &[usize]) -> (Scanner, Option<(u64, &'static str)>) {
        let (mut scanner, finding) = (Scanner::default(), Finding::default());
        let mut rest = stream;
        for piece in pieces.iter().copied().chain([usize::MAX]) {
            let (now, later) = rest.split_at(piece.min(rest.len()));
            scanner.read(now, &finding);
            rest = later;
        }
        (scanner, finding.0.get().map(|(number, fault)| (*number, fault.rule)))
    }

    proptest! {
        // Each case is long, and most of its time goes into making it up.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_is_proper_is_followed_to_its_end(
            requests in proptest::collection::vec(request(), 0..4),
            pieces in proptest::collection::vec(0..200_usize, 0..20),
        ) {
            let (scanner, finding) = scanned(&requests.concat(), &pieces);
            prop_assert_eq!(finding, None);
            prop_assert!(scanner.is_between_requests());
            prop_assert_eq!(scanner.number, requests.len() as u64);
        }

        #[test]
        fn it_makes_no_difference_in_which_pieces_the_bytes_come(
            stream in proptest::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), Just(b'0'), Just(b'#'), any::<u8>()], 0..200),
            pieces in proptest::collection::vec(0..20_usize, 0..40),
        ) {
            let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
            for begin in [&b""[..], &head[..17], head] {
                let stream = [begin, &stream].concat();
                prop_assert_eq!(scanned(&stream, &[]).1, scanned(&stream, &pieces).1);
            }
        }
    }
}
