//! What frames say, as lines that can be compared.

use std::collections::BTreeMap;

use van_core::amqp::{Decode, Performative, Reader};

use super::conversation::{Entry, What};

/// Our frames in a recording, connection by connection.
pub(crate) fn said(entries: &[Entry]) -> Vec<String> {
    let mut streams: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    for entry in entries {
        if let What::Said(connection, octets) = &entry.what {
            streams.entry(*connection).or_default().extend_from_slice(octets);
        }
    }
    streams.iter().flat_map(|(connection, octets)| lines(*connection, octets)).collect()
}

fn lines(connection: usize, mut octets: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    // Payload of deliveries whose last frame has not come, by channel and handle.
    let mut payloads: BTreeMap<(u16, u32), Vec<u8>> = BTreeMap::new();
    while !octets.is_empty() {
        if octets.starts_with(b"AMQP") {
            lines.push(format!("c{connection} header {:?}", &octets[4..8]));
            octets = &octets[8..];
            continue;
        }
        let size = u32::from_be_bytes(octets[..4].try_into().expect("4 octets")) as usize;
        let (frame, rest) = octets.split_at(size);
        octets = rest;
        let (is_sasl, channel) = (frame[5] == 1, u16::from_be_bytes([frame[6], frame[7]]));
        let body = &frame[8..];
        if is_sasl {
            lines.push(format!("c{connection} sasl {body:02x?}"));
        } else if !body.is_empty() {
            let mut reader = Reader::new(body);
            let performative = Performative::decode(&mut reader).expect("ours can be read");
            lines.extend(
                line(&mut payloads, channel, performative, reader.rest())
                    .map(|line| format!("c{connection} ch{channel} {line}")),
            );
        }
    }
    lines
}

fn line(
    payloads: &mut BTreeMap<(u16, u32), Vec<u8>>,
    channel: u16,
    performative: Performative,
    payload: &[u8],
) -> Option<String> {
    match performative {
        Performative::Flow(_) => None,
        Performative::Transfer(transfer) => {
            let gathered = payloads.entry((channel, transfer.handle)).or_default();
            gathered.extend_from_slice(payload);
            if transfer.more {
                return None;
            }
            let whole = payloads.remove(&(channel, transfer.handle)).unwrap_or_default();
            Some(format!(
                "delivery on {} settled {:?} aborted {}: {}",
                transfer.handle,
                transfer.settled,
                transfer.aborted,
                text(&whole)
            ))
        }
        other => Some(format!("{other:?}")),
    }
}

/// Readable where it is text.
fn text(octets: &[u8]) -> String {
    octets.escape_ascii().to_string()
}
