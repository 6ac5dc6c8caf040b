//! Addresses: where the text of a `to` leads (docs/wire.md §5).

/// What an address means to one router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address<'a> {
    /// A name at this very router: `_local/x`, `_topo/0/<me>/x`.
    Local(&'a str),
    /// A name at every router: `_topo/0/all/x`.
    Everywhere(&'a str),
    /// Something at another router, to be looked up there: `_topo/0/<id>/x`.
    Router(&'a str),
    /// Something at an edge router: `_edge/<id>/x`.
    Edge(&'a str),
    /// Something in another area or network, which this router does not reach.
    Foreign,
    /// A routing key, or any other name known across the network.
    Mobile(&'a str),
}

impl<'a> Address<'a> {
    /// Reads the text of an address as router `me` does.
    pub fn parse(text: &'a str, me: &str) -> Self {
        let path = strip(text);
        let mut segments = path.splitn(4, '/');
        let first = segments.next().unwrap_or_default();
        let rest_after = |skip: usize| path.splitn(skip + 1, '/').nth(skip).unwrap_or_default();
        match (first, segments.next(), segments.next()) {
            ("_local", Some(_), _) => Self::Local(rest_after(1)),
            ("_topo", Some("0" | "all"), Some("all")) => Self::Everywhere(rest_after(3)),
            ("_topo", Some("0" | "all"), Some(id)) if id == me => Self::Local(rest_after(3)),
            ("_topo", Some("0" | "all"), Some(id)) => Self::Router(id),
            ("_edge", Some(id), _) => Self::Edge(id),
            ("_topo" | "_xtopo" | "_xedge", Some(_), _) => Self::Foreign,
            _ => Self::Mobile(path),
        }
    }
}

impl<'a> Address<'a> {
    /// Reads the text of an address as edge router `me` does: all other routers are behind its uplink.
    pub fn parse_at_edge(text: &'a str, me: &str) -> Self {
        match Self::parse(text, me) {
            Self::Edge(id) if id == me => Self::Local(strip(text).splitn(3, '/').nth(2).unwrap_or_default()),
            other => other,
        }
    }
}

/// Takes off what does not count: the scheme, a host, leading slashes, one slash or dot at the end.
fn strip(text: &str) -> &str {
    let path = text.find(":/").map_or(text, |colon| &text[colon + 1..]);
    let path = match path.strip_prefix("//") {
        Some(with_host) => with_host.find('/').map_or("", |slash| &with_host[slash..]),
        None => path,
    };
    let path = path.trim_start_matches('/');
    path.strip_suffix(['/', '.']).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Address<'_>) {
        assert_eq!(Address::parse(text, "me"), expected, "{text}");
    }

    #[test]
    fn every_form_is_read() {
        check("amqp:/_local/qdhello", Address::Local("qdhello"));
        check("amqp:/_topo/0/all/qdrouter.ma", Address::Everywhere("qdrouter.ma"));
        check("_topo/0/all/qdrouter", Address::Everywhere("qdrouter"));
        check("_topo/all/all/x", Address::Everywhere("x"));
        check("amqp:/_topo/0/me/temp.A+5SHV8rNNOP0Zm", Address::Local("temp.A+5SHV8rNNOP0Zm"));
        check("_topo/all/me/x", Address::Local("x"));
        check("_topo/0/other/$management", Address::Router("other"));
        check("_topo/1/other/x", Address::Foreign);
        check("_xtopo/net/0/other/x", Address::Foreign);
        check("_edge/e1/temp.x", Address::Edge("e1"));
        check("backend:8080", Address::Mobile("backend:8080"));
        check("mc/sfe.all", Address::Mobile("mc/sfe.all"));
    }

    #[test]
    fn an_edge_router_has_names_of_its_own() {
        let check = |text, expected| assert_eq!(Address::parse_at_edge(text, "me"), expected, "{text}");
        check("amqp:/_edge/me/temp.x", Address::Local("temp.x"));
        check("_edge/other/temp.x", Address::Edge("other"));
        check("_local/x/y", Address::Local("x/y"));
        check("_topo/0/other/x", Address::Router("other"));
        check("backend", Address::Mobile("backend"));
    }

    #[test]
    fn scheme_host_and_ends_do_not_count() {
        check("amqp:/echo", Address::Mobile("echo"));
        check("amqp://host:5672/echo", Address::Mobile("echo"));
        check("amqp://host", Address::Mobile(""));
        check("//host/echo", Address::Mobile("echo"));
        check("/echo/", Address::Mobile("echo"));
        check("echo.", Address::Mobile("echo"));
    }

    #[test]
    fn names_below_a_router_keep_their_slashes() {
        check("_topo/0/me/a/b", Address::Local("a/b"));
        check("_local/a/b", Address::Local("a/b"));
    }
}
