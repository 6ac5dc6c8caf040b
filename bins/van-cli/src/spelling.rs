//! Spellings of the command line that clap does not know: long flags with one dash, as in `link create f -name x`.

use std::collections::BTreeSet;
use std::ffi::OsString;

/// Gives every long flag its two dashes. The full name of a flag wins over grouped letters.
pub(crate) fn with_two_dashes(grammar: &clap::Command, arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut flags = BTreeSet::from(["help", "version"]);
    collect(grammar, &mut flags);
    let mut is_over = false;
    let respell = |argument: OsString| {
        is_over |= argument == "--";
        let name = argument.to_str().and_then(|text| text.strip_prefix('-')).map(|text| text.split('=').next());
        match name {
            Some(Some(name)) if !is_over && name.len() > 1 && flags.contains(name) => {
                let mut respelt = OsString::from("-");
                respelt.push(argument);
                respelt
            }
            _ => argument,
        }
    };
    arguments.into_iter().map(respell).collect()
}

fn collect<'a>(grammar: &'a clap::Command, flags: &mut BTreeSet<&'a str>) {
    flags.extend(grammar.get_arguments().filter_map(clap::Arg::get_long));
    for command in grammar.get_subcommands() {
        collect(command, flags);
    }
}
