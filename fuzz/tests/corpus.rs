//! The corpus is whole, and a short run over it harms nobody.

use std::fs;

use fuzz::{Corpus, Limit, MAX_INPUT_BYTES, TARGETS, Target, check, run};

/// Enough to reach every decoder's usual paths, few enough for every build.
const INPUTS: u64 = 2000;

fn corpus(target: &Target) -> Corpus {
    Corpus::read(target.name).unwrap_or_else(|error| panic!("{}: {error}", target.name))
}

#[test]
fn every_target_has_a_corpus_and_nobody_else() {
    let folder = Corpus::folder("");
    let mut folders: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name()).collect();
    folders.sort();
    let mut names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    names.sort_unstable();
    assert_eq!(folders, names);
}

#[test]
fn the_corpus_is_small_and_gets_past_the_outer_header() {
    for target in TARGETS {
        for (number, input) in corpus(target).inputs().iter().enumerate() {
            assert!(input.len() <= MAX_INPUT_BYTES, "{} {number}", target.name);
            let outcome = check(target, input).unwrap_or_else(|cause| panic!("{} {number}: {cause}", target.name));
            assert!(outcome.0, "{} {number}", target.name);
        }
    }
}

#[test]
fn mutations_of_the_corpus_harm_nobody() {
    for target in TARGETS {
        let report = run(target, &corpus(target), 1, Limit::Inputs(INPUTS));
        let report = report.unwrap_or_else(|crash| panic!("{}: {crash}", target.name));
        assert!(report.is_deep(), "{}: only {} of {INPUTS}", target.name, report.deep);
    }
}
