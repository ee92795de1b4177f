//! Who changed what. A use case that changes something adds an entry in its transaction; for what
//! has none, whoever serves the request adds one afterwards, so that nothing is missed.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;
use luthier_store::audit;
use luthier_types::Result;
use sqlx::SqliteConnection;

use crate::App;

pub use luthier_store::audit::{Caller, Change, Entry, Query};

tokio::task_local! {
    /// On whose behalf this task works.
    static ASKED_BY: Asked;
}

#[derive(Clone)]
struct Asked {
    caller: Arc<Caller>,
    entered: Arc<AtomicBool>,
}

/// Does `work` on behalf of `caller`. Gives whether it entered what it changed.
pub async fn on_behalf<T>(caller: Arc<Caller>, work: impl Future<Output = T>) -> (T, bool) {
    let asked = Asked {
        caller,
        entered: Arc::default(),
    };
    let entered = Arc::clone(&asked.entered);
    let done = ASKED_BY.scope(asked, work).await;
    (done, entered.load(Ordering::Relaxed))
}

impl App {
    /// Adds an entry in the transaction of the change.
    pub(crate) async fn audit(&self, db: &mut SqliteConnection, change: Change) -> Result<()> {
        let asked = ASKED_BY.try_with(Clone::clone).ok();
        let caller = asked
            .as_ref()
            .map_or_else(Caller::server, |asked| Caller::clone(&asked.caller));
        audit::insert(db, Timestamp::now(), &caller, &change).await?;
        if let Some(asked) = asked {
            asked.entered.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Adds an entry for a change that was made and that no use case entered.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn enter(&self, caller: &Caller, change: Change) -> Result<()> {
        let mut db = self.deps.store.read().await?;
        audit::insert(&mut db, Timestamp::now(), caller, &change).await
    }

    /// Entries of the audit log, newest first.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn audit_log(&self, query: &Query) -> Result<Vec<Entry>> {
        let mut db = self.deps.store.read().await?;
        audit::list(&mut db, query).await
    }
}
