//! AMQP over WebSocket (RFC 6455): the upgrade of an HTTP request, and the way between frames and a socket.
//!
//! Who speaks AMQP sees a connection of this machine and knows nothing of frames. A message may hold any part of the
//! stream of octets.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::tcp;

/// Subprotocols that are AMQP. Source: OASIS "AMQP WebSocket Binding"; the second is skupper-router's, for older clients.
const PROTOCOLS: [&str; 2] = ["amqp", "binary"];

/// Octets of a message from a client.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// Octets in one frame to a client, and of each buffer.
const FRAME_BYTES: usize = 16 * 1024;

/// How long a client may take nothing of a frame. Beyond what heartbeats of AMQP allow.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// A WebSocket of a client.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Whether a request asks for an upgrade.
pub(super) fn is_wanted(request: &Request<Incoming>) -> bool {
    request.headers().contains_key(UPGRADE)
}

/// Answers a request for an upgrade: what to say, and what the connection becomes when that is said.
pub(super) fn upgrade(request: &mut Request<Incoming>) -> (Response<Full<Bytes>>, Option<OnUpgrade>) {
    let refuse = |text: String| {
        let response = Response::builder().status(StatusCode::BAD_REQUEST).header(CONTENT_TYPE, "text/plain");
        (response.body(Full::new(text.into())).expect("constant headers are valid"), None)
    };
    let offers = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|it| it.to_str().ok());
    let offered: Vec<_> = offers.flat_map(|list| list.split(',')).map(str::trim).collect();
    let Some(protocol) = PROTOCOLS.into_iter().find(|protocol| offered.contains(protocol)) else {
        return refuse("this is AMQP over WebSocket: ask for the subprotocol `amqp`\n".to_owned());
    };
    match create_response_with_body(request, Full::default) {
        Ok(mut response) => {
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
            (response, Some(hyper::upgrade::on(request)))
        }
        Err(error) => refuse(format!("{error}\n")),
    }
}

/// The WebSocket that a connection has become.
pub(super) async fn open(upgraded: Upgraded) -> Socket {
    let config = WebSocketConfig::default()
        .read_buffer_size(FRAME_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await
}

/// Carries octets between a WebSocket and a socket until one of them is closed. Dropping the future breaks both off.
pub(super) async fn relay(websocket: Socket, mut socket: TcpStream) -> Result<(), Error> {
    let (mut frames_out, mut frames_in) = websocket.split();
    let (mut read, mut write) = socket.split();
    let inwards = async {
        while let Some(message) = frames_in.next().await {
            match message? {
                Message::Binary(octets) => write.write_all(&octets).await?,
                // Tungstenite answers pings, and closes.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                Message::Text(_) => return Ok(Some(CloseCode::Unsupported)),
                Message::Close(_) => break,
            }
        }
        Ok::<_, Error>(None)
    };
    let outwards = async {
        let mut buffer = vec![0; FRAME_BYTES];
        loop {
            let count = read.read(&mut buffer).await?;
            if count == 0 {
                return Ok::<_, Error>(());
            }
            in_time(frames_out.send(Message::binary(buffer[..count].to_vec()))).await?;
        }
    };
    let mut inwards = std::pin::pin!(inwards);
    let code = tokio::select! {
        ended = outwards => ended.map(|()| CloseCode::Normal)?,
        ended = &mut inwards => match ended? {
            Some(code) => code,
            // The answer to the client's close is still to leave.
            None => return in_time(frames_out.flush()).await,
        }
    };
    in_time(frames_out.send(Message::Close(Some(CloseFrame { code, reason: "".into() })))).await?;
    if code == CloseCode::Normal {
        let _ = tokio::time::timeout(tcp::LINGER_TIME, inwards).await;
    }
    Ok(())
}

/// Gives a client up that takes nothing for too long.
async fn in_time(sending: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    tokio::time::timeout(SEND_TIMEOUT, sending)
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}

/// A connection of this machine, both ends.
pub(super) async fn loopback() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let near = TcpStream::connect(listener.local_addr()?).await?;
    loop {
        // Another program of this machine may have been quicker.
        let (far, address) = listener.accept().await?;
        if address == near.local_addr()? {
            near.set_nodelay(true)?;
            return Ok((near, far));
        }
    }
}
