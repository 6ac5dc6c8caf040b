//! Logs, as the `log` entities of the configuration ask for them.

use van_core::management::config::Log;

/// Starts logging for the process.
pub(crate) fn start(_logs: &[Log]) -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::INFO).init();
    Ok(())
}
