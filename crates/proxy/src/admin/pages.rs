//! Which page a request asks for, and how an answer looks.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};
use service_mesh::ServiceProxy;

use super::{action, snapshot};
use crate::control::Surroundings;
use crate::drain::Phase;
use crate::metrics::{self, Text};

/// What is answered.
pub(super) type Reply = Response<Full<Bytes>>;

/// A request that is not answered as it would have liked.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    /// One word, for programs.
    reason: &'static str,
    /// For people.
    message: String,
    header: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    pub(super) fn unauthorized() -> Self {
        let message = String::from("show the token: Authorization: Bearer TOKEN");
        let header = Some((WWW_AUTHENTICATE, "Bearer"));
        Self { status: StatusCode::UNAUTHORIZED, reason: "unauthorized", message, header }
    }

    pub(super) fn forbidden(message: &str) -> Self {
        Self { status: StatusCode::FORBIDDEN, reason: "forbidden", message: message.to_owned(), header: None }
    }

    pub(super) fn not_found(message: String) -> Self {
        Self { status: StatusCode::NOT_FOUND, reason: "not_found", message, header: None }
    }

    pub(super) fn bad_request(message: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, reason: "bad_request", message, header: None }
    }

    fn method_not_allowed(allowed: &'static str) -> Self {
        let message = format!("this is for {allowed}");
        let header = Some((ALLOW, allowed));
        Self { status: StatusCode::METHOD_NOT_ALLOWED, reason: "method_not_allowed", message, header }
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn into_response(self) -> Reply {
        let mut response =
            json_of(self.status, &json!({ "error": { "reason": self.reason, "message": self.message } }));
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// Answers a request that was let in.
pub(super) fn answer(head: &Parts, surroundings: &Surroundings) -> Result<Reply, Refusal> {
    let path = head.uri.path();
    let is_read = head.method == Method::GET || head.method == Method::HEAD;
    let page = match path {
        "/live" => Page::Live,
        "/ready" => Page::Ready,
        "/metrics" => Page::Metrics,
        "/snapshot" => Page::Snapshot,
        "/explain" => Page::Explain,
        _ => match path.strip_prefix('/').and_then(action::Action::parse) {
            Some(action) if head.method == Method::POST => {
                return Ok(json_of(StatusCode::OK, &action.take(&Query::of(head)?, surroundings)?));
            }
            Some(_) => return Err(Refusal::method_not_allowed("POST")),
            None => return Err(Refusal::not_found(format!("there is no page {path}; {}", action::pages()))),
        },
    };
    if !is_read {
        return Err(Refusal::method_not_allowed("GET"));
    }
    Ok(match page {
        Page::Live => json_of(StatusCode::OK, &json!({ "live": true })),
        Page::Ready => ready(surroundings.phase()),
        Page::Metrics => {
            let mut text = Text::default();
            surroundings.render(&mut text);
            with_type(StatusCode::OK, metrics::CONTENT_TYPE, text.into_string())
        }
        Page::Snapshot => json_of(StatusCode::OK, &snapshot::snapshot(surroundings)),
        Page::Explain => {
            let service = Query::of(head)?.service;
            service.as_deref().map(|name| service_named(name, surroundings)).transpose()?;
            json_of(StatusCode::OK, &json!({ "stories": surroundings.stories.told(service.as_deref()) }))
        }
    })
}

/// The service of this name, or which there are.
pub(super) fn service_named(name: &str, surroundings: &Surroundings) -> Result<ServiceProxy, Refusal> {
    surroundings.mesh.service(name).ok_or_else(|| {
        let services = surroundings.mesh.services();
        let known: Vec<&str> = services.iter().map(ServiceProxy::name).collect();
        Refusal::not_found(format!("there is no service {name:?}; there are: {}", known.join(", ")))
    })
}

enum Page {
    Live,
    Ready,
    Metrics,
    Snapshot,
    Explain,
}

fn ready(phase: Phase) -> Reply {
    let is_ready = phase == Phase::Serving;
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_of(status, &json!({ "ready": is_ready }))
}

fn json_of(status: StatusCode, value: &Value) -> Reply {
    with_type(status, "application/json", format!("{value:#}\n"))
}

fn with_type(status: StatusCode, kind: &'static str, body: String) -> Reply {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // What was true a moment ago is of no use to anybody.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What stands behind the `?`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) service: Option<String>,
    pub(super) instance: Option<String>,
}

impl Query {
    pub(super) fn of(head: &Parts) -> Result<Self, Refusal> {
        Self::parse(head.uri.query().unwrap_or_default()).map_err(Refusal::bad_request)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let field = match key {
                "service" => &mut query.service,
                "instance" => &mut query.instance,
                _ => return Err(format!("{key:?} is unknown; allowed: service, instance")),
            };
            let value = decoded(value).ok_or_else(|| format!("{value:?} is not percent-encoded UTF-8"))?;
            if field.replace(value).is_some() {
                return Err(format!("{key} stands there twice"));
            }
        }
        Ok(query)
    }
}

/// Percent-decoding (RFC 3986 section 2.1). A plus is a plus.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(rest.next()?)? << 4 | digit(rest.next()?)?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_and_what_is_wrong_with_it_told() {
        let query = Query::parse("service=caf%C3%A9+1&instance=%5B::1%5D:80").unwrap();
        assert_eq!((query.service.as_deref(), query.instance.as_deref()), (Some("café+1"), Some("[::1]:80")));
        assert_eq!(Query::parse("&").unwrap(), Query::default());
        for wrong in ["servce=a", "service=%", "service=%2", "service=%zz", "service=%ff", "service=a&service=b"] {
            assert!(Query::parse(wrong).is_err(), "{wrong}");
        }
    }
}
