//! Those who call: HTTP over a connection that stays.

use std::error::Error;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use service_mesh_story::PATH;
use tokio::net::TcpStream;

use crate::refusal::REFUSED;

/// One who calls by a connection of his own.
#[derive(Debug)]
pub(super) struct Caller {
    address: String,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

impl Caller {
    pub(super) fn new(address: String) -> Self {
        Self { address, connection: None }
    }

    async fn get(&mut self) -> Result<String, Box<dyn Error + Send + Sync>> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.address).await?,
        };
        let mut request = Request::get(PATH).body(Empty::new())?;
        request.headers_mut().insert(HOST, HeaderValue::try_from(&self.address)?);
        connection.ready().await?;
        let response = connection.send_request(request).await?;
        let (status, refused) = (response.status(), response.headers().get(REFUSED).cloned());
        let body = response.into_body().collect().await?.to_bytes();
        self.connection = Some(connection);
        match refused {
            _ if status.is_success() => Ok(String::from_utf8(body.into())?),
            Some(refused) => Err(format!("the answer was {status}, {}", refused.to_str()?).into()),
            None => Err(format!("the answer was {status}").into()),
        }
    }
}

impl service_mesh_story::Caller for Caller {
    async fn ask(&mut self) -> Result<String, String> {
        self.get().await.map_err(|error| error.to_string())
    }
}

async fn connect(address: &str) -> Result<SendRequest<Empty<Bytes>>, Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // How it ends, the request on it tells.
    tokio::spawn(connection);
    Ok(sender)
}
