//! Runners that an operator keeps, of MANUAL deployments.

use luthier_types::{DeploymentId, ModelId, OutsideId, Result, RunnerAddress};
use serde::{Deserialize, Serialize};
use sqlx::{Row as _, SqliteConnection};

use crate::{failed, values::from_word};

/// A runner outside the server's containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    /// Told anew with each address.
    pub id: OutsideId,
    /// Where it listens.
    pub address: RunnerAddress,
}

/// Sets or, with `None`, removes the runner of a deployment. The caller raises the deployment's
/// generation.
///
/// # Errors
/// `Internal`.
pub async fn set(
    db: &mut SqliteConnection,
    deployment: DeploymentId,
    outside: Option<&Outside>,
) -> Result<()> {
    let query = match outside {
        Some(outside) => sqlx::query(
            "INSERT INTO outside_runners (deployment_id, id, address) VALUES (?, ?, ?)
             ON CONFLICT (deployment_id) DO UPDATE SET id = excluded.id, address = excluded.address",
        )
        .bind(deployment.to_string())
        .bind(outside.id.to_string())
        .bind(outside.address.to_string()),
        None => sqlx::query("DELETE FROM outside_runners WHERE deployment_id = ?")
            .bind(deployment.to_string()),
    };
    query
        .execute(db)
        .await
        .map_err(failed("setting a runner's address"))?;
    Ok(())
}

/// The runner that an operator keeps for a model, if its deployment is MANUAL and has one.
///
/// # Errors
/// `Internal`.
pub async fn of_model(db: &mut SqliteConnection, model: ModelId) -> Result<Option<Outside>> {
    let found = list(db).await?;
    Ok(found
        .into_iter()
        .find(|(_, of, _)| *of == model)
        .map(|(.., outside)| outside))
}

/// Those of all deployments that are MANUAL and have one.
///
/// # Errors
/// `Internal`.
pub async fn list(db: &mut SqliteConnection) -> Result<Vec<(DeploymentId, ModelId, Outside)>> {
    let rows = sqlx::query(
        "SELECT o.deployment_id, d.model_id, o.id, o.address FROM outside_runners o
             JOIN deployments d ON d.id = o.deployment_id WHERE d.deployment_type = 'MANUAL'",
    )
    .fetch_all(db)
    .await
    .map_err(failed("reading runners' addresses"))?;
    rows.iter()
        .map(|row| {
            let outside = Outside {
                id: from_word(row.get("id"))?,
                address: row.get::<&str, _>("address").parse()?,
            };
            let deployment = from_word(row.get("deployment_id"))?;
            Ok((deployment, from_word(row.get("model_id"))?, outside))
        })
        .collect()
}
