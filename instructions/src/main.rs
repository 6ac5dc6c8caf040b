//! Counts instructions under callgrind, and compares them with `budget.txt`. See the README.

mod cases;
mod pair;
mod records;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, bail, ensure};

use self::cases::{CASES, Case};

/// What a count may be above its budget, in percent.
const TOLERANCE_PERCENT: u64 = 5;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(),
        ["--write"] => write(),
        ["run", name] => {
            let case = CASES.iter().find(|case| case.name == name).context("no case of that name")?;
            (case.run)();
            Ok(())
        }
        _ => bail!("usage: instructions [--write]"),
    }
}

fn budget_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("budget.txt")
}

fn compare() -> anyhow::Result<()> {
    let budget = fs::read_to_string(budget_file()).context("cannot read the budget")?;
    let counts = count_all()?;
    let mut above = Vec::new();
    println!("{:>12} {:>12} {:>7}  {:<15} what", "budget", "now", "", "case");
    for (case, now) in &counts {
        let allowed = allowed(&budget, case.name).with_context(|| format!("{} has no budget; write it", case.name))?;
        let change = (*now as f64 / allowed as f64 - 1.0) * 100.0;
        println!("{allowed:>12} {now:>12} {change:>+6.1}%  {:<15} {}", case.name, case.what);
        if *now * 100 > allowed * (100 + TOLERANCE_PERCENT) {
            above.push(case.name);
        }
    }
    ensure!(
        above.is_empty(),
        "more than {TOLERANCE_PERCENT} % above budget: {}; find what it goes to with callgrind_annotate (README), or, if it \
         is worth that, write the budget anew",
        above.join(", ")
    );
    Ok(())
}

/// The budget of a case: the first word of the line whose second it is.
fn allowed(budget: &str, name: &str) -> Option<u64> {
    let lines = budget.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.filter(|words| words.get(1) == Some(&name)).find_map(|words| words[0].parse().ok())
}

fn write() -> anyhow::Result<()> {
    let mut text = format!(
        "# Instructions, as callgrind counts them. More than {TOLERANCE_PERCENT} % above one of these fails.\n\
         # Written by: cargo run --release -p instructions -- --write\n\n"
    );
    for (case, now) in count_all()? {
        writeln!(text, "{now:>10}  {:<15} {}", case.name, case.what)?;
    }
    print!("{text}");
    fs::write(budget_file(), text).context("cannot write the budget")
}

fn count_all() -> anyhow::Result<Vec<(&'static Case, u64)>> {
    CASES.iter().map(|case| Ok((case, count(case).with_context(|| format!("cannot count {}", case.name))?))).collect()
}

/// Runs a case in a process of its own, of which only `measured` counts; the instructions of one round.
fn count(case: &Case) -> anyhow::Result<u64> {
    let program = env::current_exe()?;
    let profile = program.with_file_name(format!("callgrind.{}.out", case.name));
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--toggle-collect=*::measured*"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(&program)
        .args(["run", case.name])
        .status()
        .context("cannot run valgrind; is it installed?")?;
    ensure!(status.success(), "valgrind ended with {status}");
    let profile = fs::read_to_string(&profile).context("valgrind left no profile")?;
    let total = profile.lines().find_map(|line| line.strip_prefix("totals: ")).context("no totals in the profile")?;
    let total: u64 = total.trim().parse()?;
    ensure!(total > 0, "nothing was counted: valgrind has not found the function `measured`");
    Ok(total / case.rounds)
}
