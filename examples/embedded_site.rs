//! A site inside a program: it joins a network by a token, and reaches a workload there without a listener.
//!
//! `cargo run -p examples --example embedded_site`

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use van_site::{AccessToken, Site, TokenRequest};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = start_hub(&folder.path().join("hub.token")).await?;
    // The token can be redeemed once. What the site must remember is in its folder, so that it needs no other.
    for run in ["first", "second"] {
        let heard = run_laptop(folder.path()).await?;
        println!("the {run} time, backend says: {heard}");
    }
    hub.shutdown(Duration::ZERO).await;
    Ok(())
}

/// What an embedding program does; it may be on another machine than the hub.
async fn run_laptop(folder: &Path) -> anyhow::Result<String> {
    let token = AccessToken::read(folder.join("hub.token"))?;
    let laptop = Site::builder("laptop").state_dir(folder.join("laptop")).token(token).start().await?;
    let mut stream = laptop.dial("backend").await?;
    stream.write_all(b"hello from the laptop").await?;
    stream.shutdown().await?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await?;
    laptop.shutdown(Duration::from_secs(1)).await;
    Ok(heard)
}

/// The network that the laptop joins: a site with a workload, a plain TCP server. It writes a token for the laptop.
async fn start_hub(token: &Path) -> anyhow::Result<Site> {
    let hub = Site::builder("hub").link_access_at("127.0.0.1").start().await?;
    hub.issue_token(&TokenRequest::default()).await?.write(token)?;
    let workload = TcpListener::bind("127.0.0.1:0").await?;
    hub.connector("backend", &workload.local_addr()?.to_string()).await?;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = workload.accept().await {
            tokio::spawn(async move {
                let mut asked = String::new();
                client.read_to_string(&mut asked).await?;
                client.write_all(format!("you said \"{asked}\"").as_bytes()).await
            });
        }
    });
    Ok(hub)
}
