//! Notices that files of a namespace change.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tracing::warn;

use crate::folder::{FolderError, Namespace};

/// How long to wait for more: files come in groups.
const SETTLE: Duration = Duration::from_millis(20);

/// Notices changes in the folders that belong to the user.
pub(crate) struct Watcher {
    /// Absent where the system cannot watch; then only glances find changes.
    _watcher: Option<RecommendedWatcher>,
    changed: Arc<Notify>,
}

impl Watcher {
    /// Makes the folders if need be, and watches them.
    pub(crate) fn new(namespace: &Namespace) -> Result<Self, FolderError> {
        let folders = [namespace.input_resources(), namespace.input_certs(), namespace.input_issuers()];
        for folder in &folders {
            fs::create_dir_all(folder).map_err(|source| FolderError::writing(folder, source))?;
        }
        let changed = Arc::new(Notify::new());
        let told = Arc::clone(&changed);
        let on_event = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_))) {
                told.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(on_event).and_then(|mut watcher| {
            folders.iter().try_for_each(|folder| watcher.watch(folder, RecursiveMode::Recursive))?;
            Ok(watcher)
        });
        if let Err(error) = &watcher {
            warn!(%error, "changes of files are noticed late: the system cannot watch them");
        }
        Ok(Self { _watcher: watcher.ok(), changed })
    }

    /// Waits for changes, and until they seem complete. Dropping it loses none.
    pub(crate) async fn noticed(&self) {
        self.changed.notified().await;
        // Still to be told, in case this is dropped before they are complete.
        self.changed.notify_one();
        tokio::time::sleep(SETTLE).await;
        self.changed.notified().await;
    }
}
