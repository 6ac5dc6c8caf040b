//! How a command fails: what was typed cannot be (exit code 2), or it could not be done (exit code 1).

use std::fmt::Display;
use std::process::ExitCode;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was typed cannot be; all that is wrong with it, a line each.
    Input(Vec<String>),
    /// It could not be done, or did not come about in time.
    Run(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Run(error.into())
    }
}

impl Failure {
    /// Says it on standard error.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Input(problems) => {
                for problem in problems {
                    complain(problem);
                }
                ExitCode::from(2)
            }
            Self::Run(error) => {
                complain(format_args!("{error:#}"));
                ExitCode::FAILURE
            }
        }
    }
}

/// Says on standard error what is wrong, whether or not the command goes on.
pub(crate) fn complain(problem: impl Display) {
    eprintln!("van: {problem}");
}

/// Collects what is wrong with what was typed, so that it can be said all at once.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<String>);

impl Problems {
    /// Notes what is wrong with an argument, and goes on with a default, which [`Problems::finish`] lets nobody see.
    pub(crate) fn check<T: Default, E: Display>(&mut self, argument: &str, value: Result<T, E>) -> T {
        value.unwrap_or_else(|error| {
            self.note(format!("{argument}: {error}"));
            T::default()
        })
    }

    /// Notes what is wrong with an argument that may be left out.
    pub(crate) fn check_option<T: Default, E: Display>(
        &mut self,
        argument: &str,
        text: Option<&str>,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        text.map(|text| self.check(argument, read(text)))
    }

    /// Notes what is wrong.
    pub(crate) fn note(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// Ends the command if anything is wrong.
    ///
    /// # Errors
    /// [`Failure::Input`]
    pub(crate) fn finish(self) -> Result<(), Failure> {
        if self.0.is_empty() { Ok(()) } else { Err(Failure::Input(self.0)) }
    }
}
