use super::*;

#[test]
fn nothing_that_can_be_logged_shows_a_secret() {
    let west = west();
    let (near, far) = link();
    let shown = [
        format!("{:?}", ca()),
        format!("{west:?}"),
        format!("{:?}", connector(&west)),
        format!("{:?}", acceptor(&west)),
        format!("{near:?}"),
        format!("{far:?}"),
        format!("{:?}", connector(&west).connect("west", now())),
    ];
    let keys = [ca().credentials(), &west].map(|holder| holder.identity.key_pem().to_owned());
    for secret in keys.iter().flat_map(|key| key.lines()).filter(|line| !line.starts_with('-')) {
        assert!(shown.iter().all(|text| !text.contains(secret)));
    }
    assert!(shown[1].contains("[redacted]"));
}

#[test]
fn payload_in_the_out_buffer_is_not_shown() {
    let mut out = OutBuf::new();
    Plain::new().seal(&[b"payload"], &mut out).unwrap();
    assert_eq!(format!("{out:?}"), "OutBuf { records: 1, octets: 7 }");
}
