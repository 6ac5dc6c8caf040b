use std::collections::BTreeMap;
use van_routing::*;
fn main() {
    let n: usize = std::env::args().nth(1).map_or(100, |n| n.parse().unwrap());
    let mut ls: BTreeMap<RouterId, Peers> = BTreeMap::new();
    let id = |i: usize| RouterId::new(&format!("site-{i:03}-router")).unwrap();
    let mut x = 1u64;
    let mut add = |a: usize, b: usize| {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let c = Cost::new(1 + (x >> 33) as u32 % 5).unwrap();
        ls.entry(id(a)).or_default().insert(id(b), c);
        ls.entry(id(b)).or_default().insert(id(a), c);
    };
    let mut y = 7usize;
    for i in 1..n {
        y = (y * 1103515245 + 12345) % 2147483648;
        add(i, y % i);
        y = (y * 1103515245 + 12345) % 2147483648;
        let j = y % n;
        if i != j {
            add(i, j);
        }
    }
    let links: BTreeMap<_, _> = ls[&id(0)].keys().enumerate().map(|(i, k)| (k.clone(), LinkId(i as u64))).collect();
    let rounds = 200;
    let t = std::time::Instant::now();
    for _ in 0..rounds {
        std::hint::black_box(Topology::new(&ls));
    }
    println!("topology {:?}", t.elapsed() / rounds);
    let t = std::time::Instant::now();
    for _ in 0..rounds {
        std::hint::black_box(Table::new(id(0), Topology::new(&ls), links.clone()));
    }
    println!("topology+table {:?}", t.elapsed() / rounds);
    let t = std::time::Instant::now();
    for _ in 0..rounds {
        let table = Table::new(id(0), Topology::new(&ls), links.clone());
        let some = id(n - 1);
        for o in ls.keys() {
            std::hint::black_box(table.is_valid_origin(&some, o));
        }
    }
    println!("and all origins' paths {:?}", t.elapsed() / rounds);
    let t = std::time::Instant::now();
    for _ in 0..rounds {
        let table = Table::new(id(0), Topology::new(&ls), links.clone());
        for d in ls.keys() {
            std::hint::black_box(table.valid_origins(d).count());
        }
    }
    println!("and all valid origins listed {:?}", t.elapsed() / rounds);
}
