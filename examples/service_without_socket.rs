//! A service without any socket: its streams come through the network, to a program that listens on no port.
//!
//! `cargo run -p examples --example service_without_socket`

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use van_site::{Incoming, Kind, Site, TokenRequest};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // The network, and where its clients come in: an ordinary port, open while somebody serves the routing key.
    let hub = Site::builder("hub").link_access_at("127.0.0.1").start().await?;
    let port = hub.listener("greeter", "127.0.0.1:0").await?;
    let token = hub.issue_token(&TokenRequest::default()).await?;

    let cabin = Site::builder("cabin").token(token).start().await?;
    let serving = tokio::spawn(serve(cabin.accept("greeter").await?));

    hub.ready(Kind::Listener, "greeter").await?;
    let mut client = TcpStream::connect(("127.0.0.1", port)).await?;
    client.write_all(b"Ada").await?;
    client.shutdown().await?;
    let mut heard = String::new();
    client.read_to_string(&mut heard).await?;
    println!("the client hears: {heard}");

    // Its streams end, and with them the service.
    cabin.shutdown(Duration::from_secs(1)).await;
    serving.await?;
    hub.shutdown(Duration::ZERO).await;
    Ok(())
}

/// Serves any number of clients until the site stops.
async fn serve(mut incoming: Incoming) {
    while let Some(mut stream) = incoming.next().await {
        tokio::spawn(async move {
            let mut name = String::new();
            stream.read_to_string(&mut name).await?;
            stream.write_all(format!("hello {name}, from a program without ports").as_bytes()).await?;
            stream.shutdown().await
        });
    }
}
