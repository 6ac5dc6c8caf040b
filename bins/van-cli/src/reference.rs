//! `docs/cli.md` is what the commands say of themselves; this holds it to that.

use std::fmt::Write;
use std::path::Path;

use clap::CommandFactory;

use crate::Program;

/// How the page starts; the rest follows from the grammar.
const INTRODUCTION: &str = "\
# Commands

What `--help` of each command says. This page is written by a test: `VAN_WRITE_DOCS=1 cargo test -p van-cli reference`.

Exit codes: 0 done; 1 not done, or not in time; 2 what was typed cannot be. Errors go to standard error; with `-o`, so do
all sentences, and standard output holds nothing but documents. `-n` and `-p` may stand anywhere. A long flag may have one
dash: `-name` is `--name`. A program called `skupper`, say by a symbolic link, answers as `van`.

A site runs in a process of its own. Commands write documents into the folder of the namespace and read the status that the
site writes there: they need no rights but those to the folder. It is `$XDG_DATA_HOME/skupper/namespaces/NS`; without the
variable, `/var/lib/skupper/namespaces/NS` for root and `~/.local/share/skupper/namespaces/NS` for others.
";

/// As wide as on most terminals, whichever the test runs in.
const WIDTH: usize = 100;

#[test]
fn the_reference_is_what_the_commands_say() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let mut text = INTRODUCTION.to_owned();
    describe(Program::command(), "van", &mut text);
    if std::env::var_os("VAN_WRITE_DOCS").is_some() {
        std::fs::write(&page, &text).expect("docs/cli.md can be written");
    }
    let known = std::fs::read_to_string(&page).expect("docs/cli.md can be read");
    assert!(known == text, "docs/cli.md is not what --help says; write it anew with VAN_WRITE_DOCS=1");
}

/// Describes a command and those below it. What all have in common stands at the top only.
fn describe(command: clap::Command, path: &str, text: &mut String) {
    let command = command.bin_name(path).term_width(WIDTH).disable_help_flag(true).disable_help_subcommand(true);
    let help = command.clone().render_long_help().to_string();
    let help: Vec<_> = help.trim_end().lines().map(str::trim_end).collect();
    write!(text, "\n## {path}\n\n```text\n{}\n```\n", help.join("\n")).expect("a text takes everything");
    for below in command.get_subcommands() {
        describe(below.clone(), &format!("{path} {}", below.get_name()), text);
    }
}
