//! What can be said about a record: attributes, their codes and their types.

macro_rules! attributes {
    ($($code:literal $name:ident $class:ident $doc:literal;)*) => {
        /// An attribute of a record, ordered by its code. Many are not sent by anybody any more; they are known so that they
        /// are not mistaken for others.
        ///
        /// Codes 0 and 1 are not here: they are a record's type and identity, without which there is none.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Attribute {
            $(#[doc = $doc] $name = $code,)*
        }

        impl Attribute {
            /// All of them, in the order of their codes.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Of what type its values are.
            pub const fn class(self) -> Class {
                match self {
                    $(Self::$name => Class::$class,)*
                }
            }
        }
    };
}

/// The type of an attribute's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Counters, times and other integers: ulong.
    Number,
    /// Texts, and references to other records: string.
    Text,
}

attributes! {
    2 Parent Text "The identity of the record it belongs to.";
    3 StartTime Number "When it came to be, in µs since 1970.";
    4 EndTime Number "When it ended, in µs since 1970. Absent: it lives.";
    5 Counterflow Text "The other direction of a flow of Skupper 1.";
    6 Peer Text "The router access at the other end of a link.";
    7 Process Text "The process behind a connector.";
    8 SiblingOrdinal Number "Nobody's.";
    9 Location Text "Where a site is.";
    10 Provider Text "Who runs what a site is on.";
    11 Platform Text "What a site is on: `kubernetes`, `podman`, `docker`, `linux`.";
    12 Namespace Text "The namespace of a site or router.";
    13 Mode Text "A router's mode; whether a process is `internal` or `external`.";
    14 SourceHost Text "The address of a client or process.";
    15 DestinationHost Text "Where a listener listens or a connector connects.";
    16 Protocol Text "`tcp`; `amqp` for links; the version of HTTP for requests.";
    17 SourcePort Text "A client's port: text on the wire.";
    18 DestinationPort Text "The port of a listener, connector or link: text on the wire.";
    19 VanAddress Text "The routing key.";
    20 ImageName Text "The image of a router or process.";
    21 ImageVersion Text "The version of that image.";
    22 HostName Text "The host of a router, the node of a process.";
    23 Octets Number "Octets from client to server, or one way over a link.";
    24 Latency Number "µs from the first octet of a request to the first of its answer.";
    25 TransitLatency Number "Nobody's.";
    26 Backlog Number "Nobody's.";
    27 Method Text "The method of an HTTP request.";
    28 Result Text "The status of an HTTP answer; the condition a link failed with.";
    29 Reason Text "The reason of an HTTP answer; the text a link failed with.";
    30 Name Text "The name; a router's is `0/<router id>`.";
    31 Trace Text "The routers a connection passed, `|` between them.";
    32 BuildVersion Text "The version of a router or site.";
    33 LinkCost Number "What a link costs.";
    34 Direction Text "Nobody's.";
    35 OctetRate Number "Nobody's.";
    36 OctetsOut Number "Of Skupper 1.";
    37 OctetsUnacked Number "Of Skupper 1.";
    38 WindowClosures Number "Of Skupper 1.";
    39 WindowSize Number "Of Skupper 1.";
    40 FlowCountL4 Number "Connections so far, of a listener or connector.";
    41 FlowCountL7 Number "Nobody's.";
    42 FlowRateL4 Number "Nobody's.";
    43 FlowRateL7 Number "Nobody's.";
    44 Duration Number "Nobody's.";
    45 Image Text "Nobody's.";
    46 Group Text "The component a process is part of.";
    47 StreamId Number "The stream of an HTTP/2 request.";
    48 LogSeverity Number "From 0, debug, to 4, critical.";
    49 LogText Text "A line of a log.";
    50 SourceFile Text "The file that wrote the line.";
    51 SourceLine Number "And where in it.";
    52 LinkCount Number "Links that a router access has accepted and that are up.";
    53 OperStatus Text "`up` or `down`, of a link.";
    54 Role Text "`inter-router`, `edge` or `inter-edge`, of a link or router access.";
    55 UpTimestamp Number "When a link last came up, in µs since 1970.";
    56 DownTimestamp Number "When it last went down.";
    57 DownCount Number "How often it did; a first attempt that fails counts.";
    58 OctetsReverse Number "Octets from server to client, or the other way over a link.";
    59 OctetRateReverse Number "Nobody's.";
    60 Connector Text "The connector of a connection.";
    61 ProcessLatency Number "As the latency, measured at the connector.";
    62 ProxyHost Text "The connector's own address towards the process.";
    63 ProxyPort Text "And its port.";
    64 ErrorListenerSide Text "What went wrong at the listener.";
    65 ErrorConnectorSide Text "What went wrong at the connector.";
    66 ActiveTlsOrdinal Number "The generation of the TLS credentials in use.";
    67 HttpProxy Text "`yes` or `no`: whether a link goes through a proxy.";
    1000 RecordsDropped Number "**Ours**: records of a router that were never told, because they were too many.";
}

impl Attribute {
    /// The code's attribute; `None` for those we do not know.
    pub fn of(code: u64) -> Option<Self> {
        let place = Self::ALL.binary_search_by_key(&code, |attribute| attribute.code().into());
        place.ok().map(|place| Self::ALL[place])
    }

    /// Its key on the wire.
    pub const fn code(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_2_to_67_without_a_gap_and_our_own() {
        assert!(Attribute::ALL.iter().map(|attribute| attribute.code()).eq((2..=67).chain([1000])));
    }

    #[test]
    fn every_code_is_read_back() {
        for attribute in Attribute::ALL {
            assert_eq!(Attribute::of(attribute.code().into()), Some(*attribute));
        }
        assert_eq!([0, 1, 68, 999, 1001, u64::MAX].map(Attribute::of), [None; 6]);
    }
}
