//! HTTP as `curl` would speak it, without a library.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::site::Site;

/// An answer that takes longer does not come.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// The body at a path, over a connection of its own; an error also for a status other than 200.
pub(crate) fn get(site: &Site, address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = site.connect(address)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    body(&response).ok_or_else(|| io::Error::other(String::from_utf8_lossy(&response).into_owned()))
}

/// The body of a whole response of status 200.
fn body(response: &[u8]) -> Option<Vec<u8>> {
    let head_end = response.windows(4).position(|octets| octets == b"\r\n\r\n")? + 4;
    let (head, body) = response.split_at(head_end);
    let head = std::str::from_utf8(head).ok()?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse::<usize>().ok()?;
    (head.starts_with("http/1.1 200 ") && body.len() == length).then(|| body.to_vec())
}

/// Answers one request: with a body, or with 404 if there is none for the path.
pub(crate) fn serve(mut stream: TcpStream, body_of: impl Fn(&str) -> Option<Vec<u8>>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet)?;
        head.extend(octet);
    }
    let head = String::from_utf8_lossy(&head);
    let path = head.split(' ').nth(1).unwrap_or_default();
    let (status, body) = body_of(path).map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)
}
