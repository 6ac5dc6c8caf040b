//! The graph alone: paths through a small network, and what they mean to one of its routers.
//!
//! ```text
//!   paris ──1── bonn ──1── prague
//!     │           │           │
//!     4           2           1
//!     │           │           │
//!   lyon ───1── bern ──3── vienna
//! ```

use std::collections::BTreeMap;

use van_routing::{Cost, LinkId, Peers, RouterId, Table, Topology};

const CABLES: [(&str, &str, u32); 7] = [
    ("paris", "bonn", 1),
    ("bonn", "prague", 1),
    ("paris", "lyon", 4),
    ("bonn", "bern", 2),
    ("prague", "vienna", 1),
    ("lyon", "bern", 1),
    ("bern", "vienna", 3),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut link_states: BTreeMap<RouterId, Peers> = BTreeMap::new();
    for (a, b, cost) in CABLES {
        for (from, to) in [(a, b), (b, a)] {
            link_states.entry(RouterId::new(from)?).or_default().insert(RouterId::new(to)?, Cost::new(cost)?);
        }
    }
    let topology = Topology::new(&link_states);

    let (lyon, bern) = (RouterId::new("lyon")?, RouterId::new("bern")?);
    let paths = topology.paths_from(&lyon).ok_or("lyon is in the graph")?;
    println!("The cheapest paths from lyon:");
    for to in topology.routers() {
        if let (Some(cost), Some(path)) = (paths.cost(to), paths.path(to)) {
            println!("  to {to:8} for {cost} by {path:?}");
        }
    }

    let links = (1..).map(LinkId).zip(link_states[&bern].keys()).map(|(link, id)| (id.clone(), link)).collect();
    let table = Table::new(bern, topology, links);
    println!("What bern does with messages:");
    for (to, route) in table.routes() {
        let origins: Vec<_> = table.valid_origins(to).map(RouterId::as_str).collect();
        println!("  to {to:8} by {:6} if they are from {origins:?}", route.next_hop.as_str());
    }
    Ok(())
}
