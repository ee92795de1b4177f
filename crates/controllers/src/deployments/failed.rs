//! Writing down how replicas failed.

use luthier_store::failures::{self, Failure};
use luthier_types::ModelId;

use super::Core;

impl Core {
    /// Writes down how replicas failed, for whoever asks what happened. What cannot be written is
    /// in the log.
    pub(super) async fn record(&self, failures: &[(ModelId, Failure)]) {
        if failures.is_empty() {
            return;
        }
        let written = async {
            let mut db = self.deps.store.write().await?;
            for (model, failure) in failures {
                failures::insert(&mut db, *model, failure).await?;
            }
            db.commit()
                .await
                .map_err(luthier_store::failed("recording failures of replicas"))
        };
        if let Err(error) = written.await {
            tracing::error!(error = %error.chain(), "failures of replicas are not recorded");
        }
    }
}
