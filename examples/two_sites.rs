//! Two sites in one process, each with its own certificate authority, linked by a token; a stream each way.
//!
//! `cargo run -p examples --example two_sites`

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use van_site::{Site, TokenRequest};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let west = Site::builder("west").link_access_at("127.0.0.1").start().await?;
    let request = TokenRequest { valid_for: Duration::from_secs(60), ..TokenRequest::default() };
    let east = Site::builder("east").token(west.issue_token(&request).await?).start().await?;

    // East dialled the link, for west only has an open port; streams go over it either way.
    let (from_east, from_west) = tokio::try_join!(greet(&east, &west, "west"), greet(&west, &east, "east"))?;
    println!("{from_east}\n{from_west}");

    // Both know the network as far as it goes.
    let mut view = east.watch();
    let view = view.wait_for(|snapshot| snapshot.network.sites.len() == 2).await?.network.clone();
    for site in &view.sites {
        println!("{} is a site with id {}", site.name, site.id);
    }
    tokio::join!(east.shutdown(Duration::from_secs(1)), west.shutdown(Duration::from_secs(1)));
    Ok(())
}

/// One site serves a routing key, the other dials it; what the latter is told.
async fn greet(client: &Site, server: &Site, key: &str) -> anyhow::Result<String> {
    let mut incoming = server.accept(key).await?;
    let serve = async {
        let mut stream = incoming.next().await.ok_or_else(|| anyhow::anyhow!("the site has stopped"))?;
        stream.write_all(format!("{key} was reached by its routing key").as_bytes()).await?;
        anyhow::Ok(stream.shutdown().await?)
    };
    let ask = async {
        let mut told = String::new();
        client.dial(key).await?.read_to_string(&mut told).await?;
        anyhow::Ok(told)
    };
    Ok(tokio::try_join!(serve, ask)?.1)
}
