//! A small HTTP service that says where it is, and the client that asks it.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves until dropped.
pub(super) struct Backend {
    site: &'static str,
    port: u16,
    serving: JoinSet<()>,
}

impl Backend {
    /// At a port; 0 is one of the system's choice.
    pub(super) async fn start(site: &'static str, port: u16) -> anyhow::Result<Self> {
        let socket =
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.context("cannot open a port for a backend")?;
        let port = socket.local_addr()?.port();
        let mut serving = JoinSet::new();
        serving.spawn(serve(site, socket));
        Ok(Self { site, port, serving })
    }

    pub(super) fn site(&self) -> &'static str {
        self.site
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Stops, and returns once its port is closed: until then the system would still take clients.
    pub(super) async fn stop(mut self) {
        self.serving.shutdown().await;
    }
}

async fn serve(site: &'static str, socket: TcpListener) {
    let mut clients = JoinSet::new();
    while let Ok((client, _)) = socket.accept().await {
        let answer =
            service_fn(move |_| async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(site)))) });
        clients.spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(client), answer).await;
        });
        while clients.try_join_next().is_some() {}
    }
}

/// The body at a URL of this machine, over a connection of its own.
pub(super) async fn get(url: &str) -> anyhow::Result<String> {
    tokio::time::timeout(ANSWER_TIMEOUT, request(url)).await.context("no answer")?
}

async fn request(url: &str) -> anyhow::Result<String> {
    let url: hyper::Uri = url.parse()?;
    let authority = url.authority().context("a URL without host")?.as_str();
    let socket = TcpStream::connect(authority).await?;
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    let request =
        Request::get(url.path()).header("host", authority).header("connection", "close").body(Empty::<Bytes>::new())?;
    let asking = async {
        let response = client.send_request(request).await?;
        ensure!(response.status().is_success(), "status {}", response.status());
        let body = response.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8_lossy(&body).into_owned())
    };
    let (answer, _) = tokio::join!(asking, connection);
    answer
}
