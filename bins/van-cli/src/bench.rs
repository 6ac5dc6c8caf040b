//! `van bench`: what the network gives to this site.

use std::time::Duration;

use van_controller::bench;
use van_site::bench::{BenchReport, BenchRequest, Bulk, Hop, Series, TargetKind, Way};
use van_site::duration;

use crate::documents;
use crate::failure::{Failure, Problems};
use crate::output::{Output, print_table, say};
use crate::place::Place;

/// How long a measurement may take, and must.
const TIMES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// What is measured, behind the flags.
pub(crate) const AFTER_HELP: &str = "\
To a site: throughput there and back, round trips, new connections with a round trip each, and round trips to each \
router on the way. To a routing key: connections, 1200 at most, and not an octet on them. The site's own router \
measures, so these are the figures of this site's clients; it is busy meanwhile.

Examples:
  van -n east bench west
  van -n east bench --key backend -o json";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The name or id of a site, or a routing key; a site, if it is both
    #[arg(value_name = "SITE|KEY")]
    name: String,
    /// It is a site
    #[arg(long, conflicts_with = "key")]
    site: bool,
    /// It is a routing key
    #[arg(long)]
    key: bool,
    /// How long each of the measurements takes, from 100ms to 5s
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    time: String,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(place: &Place, arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { name, site, key, time, output } = arguments;
    let mut problems = Problems::default();
    let namespace = place.checked_namespace(&mut problems);
    let time = problems.check("--time", self::time(time));
    problems.finish()?;
    documents::controller(&namespace)?;
    let kind = if *site { Some(TargetKind::Site) } else { key.then_some(TargetKind::RoutingKey) };
    let millis = time.as_millis() as u64;
    let report = bench::ask(&namespace, &BenchRequest { name: name.clone(), kind, millis })?;
    if output.is_for_programs() {
        return Ok(output.print(&[report])?);
    }
    Ok(show(&report)?)
}

fn time(text: &str) -> Result<Duration, String> {
    let [least, most] = TIMES;
    match duration::parse(text) {
        Ok(time) if (least..=most).contains(&time) => Ok(time),
        Ok(_) => Err(format!("{text:?} is not from 100ms to 5s")),
        Err(error) => Err(error.to_string()),
    }
}

fn show(report: &BenchReport) -> anyhow::Result<()> {
    let BenchReport { kind, name, is_ambiguous, .. } = report;
    match kind {
        TargetKind::Site if *is_ambiguous => say(format_args!("Site {name:?}; for the routing key, give --key"))?,
        TargetKind::Site => say(format_args!("Site {name:?}"))?,
        TargetKind::RoutingKey if *is_ambiguous => {
            say(format_args!("Routing key {name:?}; for the site, give --site"))?
        }
        TargetKind::RoutingKey => say(format_args!("Routing key {name:?}"))?,
    }
    if !report.path.is_empty() {
        say("")?;
        print_table(&["router", "site", "p50", "p90", "p99", "message"], &rows_of_path(report))?;
    }
    say("")?;
    print_table(&["measured", "at once", "rate", "p50", "p90", "p99", "failed"], &rows(report))
}

/// A row for each router on the way but this one, which is where the way begins.
fn rows_of_path(report: &BenchReport) -> Vec<Vec<String>> {
    let row = |Hop { router, site, round_trips }: &Hop| {
        let message = if round_trips.is_some() { "OK" } else { "has no responder: skupper-router, or --no-bench" };
        let times = round_trips.as_ref().map_or_else(|| [const { String::new() }; 3], times);
        [vec![router.clone(), site.clone()], times.into(), vec![message.to_owned()]].concat()
    };
    let mut rows: Vec<_> = report.path.iter().map(row).collect();
    if !report.is_path_whole {
        let message = "others between them are not known to an edge site";
        rows.insert(
            1,
            vec!["...".to_owned(), String::new(), String::new(), String::new(), String::new(), message.into()],
        );
    }
    rows
}

fn rows(report: &BenchReport) -> Vec<Vec<String>> {
    let bulk = |bulk: &Bulk| {
        let what = match bulk.direction {
            Way::Up => "octets there",
            Way::Down => "octets back",
        };
        vec![what.to_owned(), bulk.streams.to_string(), bits(bulk.bits_per_second)]
    };
    let series = |what: &str, series: &Series| {
        let head = vec![what.to_owned(), series.at_once.to_string(), format!("{:.0}/s", series.per_second)];
        [head, times(series).into(), vec![series.failures.to_string()]].concat()
    };
    let trips = report.round_trips.iter().map(|trips| series("round trips", trips));
    let connections = report.connections.iter().map(|connections| series("connections", connections));
    report.throughput.iter().map(bulk).chain(trips).chain(connections).collect()
}

fn times(series: &Series) -> [String; 3] {
    [series.p50_micros, series.p90_micros, series.p99_micros].map(micros)
}

fn micros(micros: f64) -> String {
    if micros < 10_000.0 { format!("{micros:.0} µs") } else { format!("{:.1} ms", micros / 1e3) }
}

fn bits(per_second: f64) -> String {
    if per_second < 1e9 { format!("{:.1} Mbit/s", per_second / 1e6) } else { format!("{:.2} Gbit/s", per_second / 1e9) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_neither_too_short_nor_too_long() {
        assert_eq!(time("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(time("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(time("99ms"), Err("\"99ms\" is not from 100ms to 5s".to_owned()));
        assert_eq!(time("1m"), Err("\"1m\" is not from 100ms to 5s".to_owned()));
        assert_eq!(time("2"), Err("Invalid duration \"2\": write numbers with units, such as 15m or 1h30m".to_owned()));
    }

    #[test]
    fn figures_are_in_units_that_fit() {
        assert_eq!([228.4, 9999.0, 12_345.0].map(micros), ["228 µs", "9999 µs", "12.3 ms"]);
        assert_eq!([13.0e6, 5.64e9].map(bits), ["13.0 Mbit/s", "5.64 Gbit/s"]);
    }

    #[test]
    fn a_router_without_responder_and_those_that_are_not_known_are_said() {
        let trips = Series {
            at_once: 1,
            count: 200,
            failures: 0,
            per_second: 4000.0,
            p50_micros: 200.0,
            p90_micros: 250.0,
            p99_micros: 300.0,
        };
        let hop = |router: &str, round_trips: Option<&Series>| Hop {
            router: router.into(),
            site: format!("{router}'s"),
            round_trips: round_trips.cloned(),
        };
        let report = BenchReport {
            kind: TargetKind::Site,
            name: "east".into(),
            is_ambiguous: false,
            path: vec![hop("west", Some(&trips)), hop("hub", None), hop("east", Some(&trips))],
            is_path_whole: true,
            throughput: vec![Bulk { direction: Way::Up, streams: 8, octets: 1, bits_per_second: 1e9 }],
            round_trips: Some(trips.clone()),
            connections: vec![Series { at_once: 16, failures: 2, ..trips.clone() }],
        };
        let text = |rows: Vec<Vec<String>>| rows.iter().map(|row| row.join("|")).collect::<Vec<_>>();
        assert_eq!(
            text(rows_of_path(&report)),
            [
                "west|west's|200 µs|250 µs|300 µs|OK",
                "hub|hub's||||has no responder: skupper-router, or --no-bench",
                "east|east's|200 µs|250 µs|300 µs|OK"
            ]
        );
        assert_eq!(
            text(rows(&report)),
            [
                "octets there|8|1.00 Gbit/s",
                "round trips|1|4000/s|200 µs|250 µs|300 µs|0",
                "connections|16|4000/s|200 µs|250 µs|300 µs|2"
            ]
        );
        let path = vec![report.path[0].clone(), report.path[2].clone()];
        let from_edge = BenchReport { is_path_whole: false, path, ..report };
        assert_eq!(text(rows_of_path(&from_edge))[1], "...|||||others between them are not known to an edge site");
    }
}
