//! Runs targets on a stable compiler, for a time or a number of inputs.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, process};

use anyhow::Context;
use clap::Parser;
use fuzz::memory::{self, BASE_BYTES, BYTES_PER_OCTET};
use fuzz::{Corpus, Crash, Limit, MIN_DEEP_PERCENT, Report, TARGETS, Target, check, run};

/// Feeds mutations of the corpus to the targets named, or to all.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which targets; all if none is named.
    targets: Vec<String>,
    /// How long each of them runs, in seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// How many inputs each of them gets, however long that takes.
    #[arg(long, conflicts_with = "seconds")]
    inputs: Option<u64>,
    /// Makes the same inputs as an earlier run; another one each time if left out.
    #[arg(long)]
    seed: Option<u64>,
    /// Gives one target the octets of a file instead, for example those of a crash.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seconds", "inputs", "seed"])]
    replay: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let named = arguments.targets.iter().map(|name| Target::of(name).with_context(|| format!("no target `{name}`")));
    let named = named.collect::<anyhow::Result<Vec<_>>>()?;
    let targets = if named.is_empty() { TARGETS.iter().collect() } else { named };
    if let Some(file) = &arguments.replay {
        return replay(&targets, file);
    }
    let seed = arguments.seed.unwrap_or_else(another_seed);
    let limit = arguments.inputs.map_or(Limit::Time(Duration::from_secs(arguments.seconds)), Limit::Inputs);
    // First of all, so that even a run that is killed can be repeated.
    println!(
        "seed {seed}; an input may hold {} KiB and {BYTES_PER_OCTET} octets for each of its own",
        BASE_BYTES / 1024
    );
    let mut has_failed = false;
    for target in targets {
        let corpus = Corpus::read(target.name).with_context(|| format!("no corpus of `{}`", target.name))?;
        match run(target, &corpus, seed, limit) {
            Ok(report) => {
                println!("{:>14}: {}", target.name, summary(&report));
                has_failed |= !report.is_deep();
            }
            Err(crash) => {
                let file = keep(target, &crash)?;
                println!("{:>14}: seed {seed}, {crash}; the input is in {}", target.name, file.display());
                has_failed = true;
            }
        }
    }
    process::exit(has_failed.into());
}

/// Any other number than last time.
fn another_seed() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64)
}

fn summary(report: &Report) -> String {
    let Report { inputs, peak_bytes, slowest, elapsed, .. } = report;
    let (rate, percent) = (report.inputs_per_second(), report.deep_percent());
    let verdict = if report.is_deep() { "" } else { ", TOO FEW" };
    format!(
        "{inputs} inputs in {:.1} s ({rate:.0}/s), {percent:.1} % past the outer header (at least {MIN_DEEP_PERCENT})\
         {verdict}, peak {} KiB, slowest {slowest:.1?}",
        elapsed.as_secs_f64(),
        peak_bytes.div_ceil(1024),
    )
}

/// Writes a crash down, to be replayed.
fn keep(target: &Target, crash: &Crash) -> anyhow::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(target.name);
    let file = folder.join(format!("input-{}", crash.number));
    fs::create_dir_all(&folder).and_then(|()| fs::write(&file, &crash.input)).context("a crash cannot be kept")?;
    Ok(file)
}

fn replay(targets: &[&Target], file: &Path) -> anyhow::Result<()> {
    let [target] = targets else { anyhow::bail!("name the one target to replay {} with", file.display()) };
    let input = fs::read(file).with_context(|| file.display().to_string())?;
    let (is_deep, peak) = check(target, &input).with_context(|| format!("{} octets", input.len()))?;
    let how_far = if is_deep { "past" } else { "not past" };
    println!("{how_far} the outer header, {peak} octets held, of at most {}", memory::bound(input.len()));
    Ok(())
}
